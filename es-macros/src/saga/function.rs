//! `#[step_function(...)]`: a step that is a plain function.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, ExprPath, FnArg, ItemFn, LitStr, ReturnType, Signature, Type};

use super::options::{self, Options};
use super::step::constants;
use super::{MAX_INPUTS, relocate};
use crate::attr::keys::{Derive, Place};
use crate::attr::value::Reader;
use crate::attr::{self, Form, MentionedKeys};
use crate::ctxt::Ctxt;
use crate::deprecated::allow_deprecated;
use crate::generics::ungroup;
use crate::suggest;

/// The declaration of a step that is a function.
struct StepDeclaration {
    options: Options,
    /// The type of the step.
    step: Option<Ident>,
    /// The function that undoes the step.
    undo: Option<ExprPath>,
}

/// The types of a function.
struct Types {
    inputs: Vec<Type>,
    has_context: bool,
    /// The `Result`.
    output: Option<Type>,
}

/// Expands `#[step_function(...)]`.
pub(crate) fn step_function(attribute: TokenStream, tokens: &TokenStream) -> TokenStream {
    let Ok(function) = syn::parse2::<ItemFn>(tokens.clone()) else {
        let message = "`#[step_function(...)]` is for a function: a step that is a type derives `SagaStep`";
        let error = syn::Error::new_spanned(tokens, message).into_compile_error();
        return quote!(#error #tokens);
    };
    let cx = Ctxt::default();
    let declaration = read(&cx, &function.sig, attribute);
    let types = check_signature(&cx, &function.sig);
    let step = step(&function, &declaration);
    let body = match cx.into_error() {
        None => implementation(&function, &declaration, &types),
        // A method cannot declare a type next to it.
        Some(error) if function.sig.receiver().is_some() => {
            let error = error.into_compile_error();
            return quote!(#[allow(dead_code)] #function #error);
        }
        Some(error) => error.into_compile_error(),
    };
    quote!(#function #step #body)
}

fn read(cx: &Ctxt, signature: &Signature, attribute: TokenStream) -> StepDeclaration {
    let derive = Derive::StepFunction;
    let (items, mentioned) = attr::nested_items(cx, derive, Place::Function, attribute);
    let mut declaration = StepDeclaration { options: Options::new(), step: None, undo: None };
    for item in &items {
        let reader = Reader { cx, derive, item };
        match item.key.to_string().as_str() {
            "step" => declaration.step = reader.ident(),
            "undo" => declaration.read_undo(reader),
            _ => declaration.options.read_item(reader),
        }
    }
    check_mentioned(cx, signature, &mentioned);
    declaration
}

impl StepDeclaration {
    /// Reads `undo = path::to::function` or `undo = "policy"`.
    fn read_undo(&mut self, reader: Reader<'_>) {
        let text = match &reader.item.form {
            Form::Value(tokens) => syn::parse2::<LitStr>(tokens.clone()).ok(),
            _ => None,
        };
        match text {
            None => self.undo = reader.path(),
            Some(text) if text.value() == "compensate" => {
                reader.cx.error_on(text, "`undo` names the function that undoes the step, as in `undo = cancel_label`");
            }
            Some(_) => self.options.undo = options::undo(reader),
        }
    }
}

/// Reports each required key that is missing.
fn check_mentioned(cx: &Ctxt, signature: &Signature, mentioned: &MentionedKeys) {
    let function = &signature.ident;
    if !mentioned.has("step") {
        let example = suggest::camel_case(&function.to_string());
        cx.error_on(function, format!("missing `step`: add `step = {example}`, the type of the step"));
    }
    Options::check_mentioned(cx, mentioned, function);
    if !mentioned.has("undo") {
        cx.error_on(
            function,
            format!(
                "missing `undo`: add `undo = undo_{function}`, a function that undoes the step; or \
                 `undo = \"ignore\"`, if the step has no effect that matters; or `undo = \"pause\"`, if a person \
                 undoes it"
            ),
        );
    }
}

fn check_signature(cx: &Ctxt, signature: &Signature) -> Types {
    if signature.asyncness.is_none() {
        cx.error_on(signature.fn_token, "a step function is asynchronous: write `async fn`");
    }
    if !signature.generics.params.is_empty() {
        cx.error_on(&signature.generics, "a step function has no generic parameters: stored inputs have one type");
    }
    let mut types = Types { inputs: Vec::new(), has_context: false, output: None };
    for (index, argument) in signature.inputs.iter().enumerate() {
        let is_last = index + 1 == signature.inputs.len();
        check_cfg(cx, argument);
        match argument {
            FnArg::Receiver(receiver) => {
                cx.error_on(receiver, "a step function has no `self`: a step with a state derives `SagaStep`");
            }
            FnArg::Typed(argument) => match ungroup(&argument.ty) {
                Type::Reference(_) if is_last => types.has_context = true,
                Type::Reference(ty) => {
                    let message = "the inputs of a step function are owned; only its last parameter, \
                                   `&es_saga::StepContext`, is a reference";
                    cx.error_on(ty, message);
                }
                ty => types.inputs.push(ty.clone()),
            },
        }
    }
    if let Some(ty) = types.inputs.get(MAX_INPUTS) {
        cx.error_on(ty, format!("a step function has at most {MAX_INPUTS} inputs"));
    }
    types.output = output(cx, signature);
    types
}

/// Reports `#[cfg]` on a parameter, which the compiler evaluates only after this macro.
fn check_cfg(cx: &Ctxt, argument: &FnArg) {
    let attributes = match argument {
        FnArg::Receiver(receiver) => &receiver.attrs,
        FnArg::Typed(argument) => &argument.attrs,
    };
    let is_cfg = |attribute: &&Attribute| attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr");
    if let Some(attribute) = attributes.iter().find(is_cfg) {
        let message = "the inputs of a step function are stored, so they cannot depend on `#[cfg]`: write the \
                       attribute on the function, and another function for the other case";
        cx.error_on(attribute, message);
    }
}

/// Returns the type that a function returns, which is a `Result` or an alias of one.
fn output(cx: &Ctxt, signature: &Signature) -> Option<Type> {
    let ReturnType::Type(_, ty) = &signature.output else {
        let message = "a step function returns its output or an error: write `-> Result<Output, Error>`";
        cx.error_on(&signature.ident, message);
        return None;
    };
    let is_result = match ungroup(ty) {
        Type::Path(path) => path.path.segments.last().is_some_and(|last| last.ident.to_string().ends_with("Result")),
        _ => false,
    };
    if is_result {
        return Some((**ty).clone());
    }
    let found = relocate(ty, ty.span());
    cx.error_on(ty, format!("a step function returns a `Result`: write `Result<{found}, Error>`"));
    None
}

/// Generates the type of the step and its name.
fn step(function: &ItemFn, declaration: &StepDeclaration) -> TokenStream {
    let StepDeclaration { options, step: Some(step), .. } = declaration else { return TokenStream::new() };
    let (vis, krate) = (&function.vis, &options.krate);
    let constants = constants(options);
    let doc = format!("The saga step that calls `{}`.", function.sig.ident);
    quote! {
        #[doc = #doc]
        #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
        #vis struct #step;

        #[automatically_derived]
        impl #krate::DeclaredStep for #step { #constants }
    }
}

/// Generates the implementation of `SagaStep`.
fn implementation(source: &ItemFn, declaration: &StepDeclaration, types: &Types) -> TokenStream {
    let (StepDeclaration { options, step: Some(step), undo }, Some(result)) = (declaration, &types.output) else {
        return TokenStream::new();
    };
    let (krate, function) = (&options.krate, &source.sig.ident);
    let bindings: Vec<Ident> = (0..types.inputs.len()).map(|index| format_ident!("__input{index}")).collect();
    let (input, pattern) = match (&*types.inputs, &*bindings) {
        ([ty], [binding]) => (quote!(#ty), quote!(#binding)),
        (types, bindings) => (quote!((#(#types),*)), quote!((#(#bindings),*))),
    };
    let context = types.has_context.then(|| quote!(__context)).into_iter();
    let arguments = bindings.iter().map(|binding| quote!(#binding)).chain(context);
    let krate_at_result = relocate(krate, result.span());
    let result_of = quote_spanned!(result.span()=> #result as #krate_at_result::__private::StepResult);
    let undone = undo.as_ref().map_or_else(
        || quote!(::core::result::Result::Ok(())),
        |undo| {
            // With the hygiene of generated code: the path may come from a `macro_rules!`, and the parameters do not.
            let span = Span::call_site().located_at(undo.span());
            quote_spanned!(span=> #undo(__compensation, __output, __context).await)
        },
    );
    let allow = allow_deprecated(&source.attrs);
    quote! {
        #allow
        #[allow(clippy::all, clippy::pedantic, clippy::nursery)]
        #[automatically_derived]
        impl #krate::SagaStep for #step {
            type Input = #input;
            type Output = <#result_of>::Output;
            type Compensation = #krate::StepKey;
            type Error = <#result_of>::Error;

            fn compensation(&self, _: &Self::Input, __key: #krate::StepKey) -> #krate::StepKey {
                __key
            }

            async fn execute(
                &self,
                #pattern: Self::Input,
                __context: &#krate::StepContext,
            ) -> ::core::result::Result<Self::Output, Self::Error> {
                #function(#(#arguments),*).await
            }

            async fn compensate(
                &self,
                __compensation: #krate::StepKey,
                __output: ::core::option::Option<Self::Output>,
                __context: &#krate::StepContext,
            ) -> ::core::result::Result<(), Self::Error> {
                #undone
            }
        }
    }
}
