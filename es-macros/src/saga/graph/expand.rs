//! The code that `saga!` generates.

use std::collections::BTreeSet;

use proc_macro2::{Ident, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Expr};

use super::line::{Input, Kind, Line, Node, Repeat};
use super::parse::SagaDeclaration;
use crate::deprecated::allow_deprecated;
use crate::duration;
use crate::saga::relocate;

/// Generates the type of the saga, with a body for the function that builds its graph.
pub(super) fn saga(declaration: &SagaDeclaration, body: &TokenStream) -> TokenStream {
    let SagaDeclaration { attributes, vis, ident, input: (input, input_ty), head, .. } = declaration;
    let krate = &head.krate;
    let name = declaration.name();
    let version = head.version.map_or(1, |version| version.value);
    let output = declaration.output.as_ref().map_or_else(|| quote!(()), |ty| quote!(#ty));
    let graph = graph_ident(ident.span());
    let result = {
        let (span, krate) = (output.span(), relocate(krate, output.span()));
        quote_spanned!(span=> #krate::NodeOut<'g, #output>)
    };
    // Without a stored input there is no saga: the compiler reports it at the type of the input.
    let define = {
        let (span, krate) = (input_ty.span(), relocate(krate, input_ty.span()));
        quote_spanned!(span=> #krate::Saga::define)
    };
    let deadline = head.deadline.map(|deadline| {
        let deadline = duration::expand(deadline);
        quote!(.map(|__saga| __saga.with_deadline(#deadline)))
    });
    let doc = format!("The saga `{name}`.");
    let is_documented = attributes.iter().any(|attribute| attribute.path().is_ident("doc"));
    let doc = (!is_documented).then(|| quote!(#[doc = #doc]));
    let children = child_sagas(declaration).map(|step| {
        let krate = relocate(krate, step.span());
        quote_spanned!(step.span()=> let () = <#step as #krate::DeclaredSaga<_, _>>::NO_CYCLE;)
    });
    let conditions: Vec<&Attribute> = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
    let allow = allow_deprecated(attributes);
    quote! {
        #(#attributes)*
        #doc
        #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
        #vis struct #ident;

        #(#conditions)*
        #allow
        #[automatically_derived]
        impl #ident {
            /// The name of the saga.
            #vis const NAME: &'static ::core::primitive::str = #name;
            /// The version of the saga.
            #vis const VERSION: ::core::primitive::u32 = #version;

            /// Defines the graph of the saga.
            ///
            /// # Errors
            /// `DefineError` if a name is invalid, or if there are two pivots.
            #vis fn define() -> ::core::result::Result<#krate::Saga<#input_ty, #output>, #krate::DefineError> {
                // A name that a function of a condition does not have: items are not hygienic.
                #[allow(clippy::all, clippy::pedantic, clippy::nursery)]
                fn __build_graph<'g>(
                    #graph: &mut #krate::SagaGraph<'g>,
                    #input: #krate::NodeOut<'g, #input_ty>,
                ) -> #result {
                    #body
                }
                #define(Self::NAME, Self::VERSION, __build_graph)#deadline
            }
        }

        #(#conditions)*
        #allow
        #[automatically_derived]
        impl #krate::DeclaredSaga<#input_ty, #output> for #ident {
            const NAME: &'static ::core::primitive::str = <#ident>::NAME;
            const NO_CYCLE: () = { #(#children)* };

            fn define() -> ::core::result::Result<#krate::Saga<#input_ty, #output>, #krate::DefineError> {
                <#ident>::define()
            }
        }

        #(#conditions)*
        #allow
        const _: () = <#ident as #krate::DeclaredSaga<_, _>>::NO_CYCLE;
    }
}

/// Returns the nodes, in order.
fn nodes(declaration: &SagaDeclaration) -> impl Iterator<Item = &Node> {
    declaration.lines.iter().chain(&declaration.result).filter_map(|line| match line {
        Line::Node { node, .. } => Some(&**node),
        Line::Pivot(_) | Line::Handle(_) => None,
    })
}

/// Returns the types of the child sagas. A saga that is its own child saga is reported already.
fn child_sagas(declaration: &SagaDeclaration) -> impl Iterator<Item = &syn::ExprPath> {
    let is_child = |node: &&Node| node.kind == Kind::Child && !node.step.path.is_ident(&declaration.ident);
    nodes(declaration).filter(is_child).map(|node| &node.step)
}

/// Returns the name of the graph, which does not collide with the names of handles.
fn graph_ident(span: Span) -> Ident {
    Ident::new("__graph", Span::mixed_site().located_at(span))
}

/// Generates the calls that build the graph.
pub(super) fn graph(declaration: &SagaDeclaration) -> TokenStream {
    let krate = &declaration.head.krate;
    let checks = name_checks(declaration);
    let lines = declaration.lines.iter().map(|line| match line {
        Line::Node { handle: Some(handle), node } => {
            let node = self::node(krate, node);
            quote!(let #handle = #node;)
        }
        Line::Node { handle: None, node } => {
            let node = self::node(krate, node);
            quote!(#node;)
        }
        Line::Pivot(keyword) => {
            let graph = graph_ident(keyword.span());
            quote_spanned!(keyword.span()=> #graph.pivot();)
        }
        Line::Handle(_) => TokenStream::new(),
    });
    let result = match &declaration.result {
        Some(Line::Node { node, .. }) => self::node(krate, node),
        Some(Line::Handle(handle)) => handle.to_token_stream(),
        Some(Line::Pivot(_)) | None => {
            let graph = graph_ident(Span::call_site());
            quote!(#graph.unit())
        }
    };
    quote!(#(#checks)* #(#lines)* #result)
}

/// Generates the call that adds a node.
fn node(krate: &syn::Path, node: &Node) -> TokenStream {
    let (step, span) = (&node.step, node.step.span());
    let graph = graph_ident(span);
    let is_plain = node.name.is_none() && node.after.is_empty() && matches!(node.repeat, Repeat::Once);
    let builder = if is_plain {
        graph.to_token_stream()
    } else {
        let name = node_name(krate, node);
        let after = node.after.iter().map(|handle| quote_spanned!(handle.span()=> .after(#handle)));
        quote_spanned!(span=> #graph.node(#name)#(#after)*)
    };
    let inputs = inputs(node);
    let arguments = match &node.repeat {
        Repeat::Once if matches!(node.kind, Kind::Delay(_)) => TokenStream::new(),
        Repeat::Once => inputs,
        Repeat::If(condition) => {
            let condition = without_parentheses(condition);
            let (pattern, bound) = pattern(node, condition.to_token_stream());
            // A bound name may be that of a field or of a variable of the condition, and is not used then.
            quote_spanned!(span=> #inputs, |#pattern| { #(let _ = &#bound;)* #condition })
        }
        Repeat::Each { list, .. } => list.to_token_stream(),
    };
    let method = Ident::new(method(node.kind, &node.repeat), span);
    match node.kind {
        Kind::External | Kind::Local => quote_spanned!(span=> #builder.#method::<#step>(#arguments)),
        Kind::Child => {
            let (krate, child) = (relocate(krate, span), Ident::new("__child", Span::mixed_site().located_at(span)));
            quote_spanned!(span=> {
                let #child = #krate::__private::child_saga::<#step, _, _>(#graph);
                #builder.#method(&#child, #arguments)
            })
        }
        Kind::Delay(time) => {
            let time = duration::expand(time);
            quote_spanned!(span=> #builder.#method(#time, #arguments))
        }
    }
}

/// Returns the name of the function of `es_saga::NodeBuilder` that adds a node.
const fn method(kind: Kind, repeat: &Repeat) -> &'static str {
    match (kind, repeat) {
        (Kind::External, Repeat::Once) => "step",
        (Kind::External, Repeat::If(_)) => "step_if",
        (Kind::External, Repeat::Each { .. }) => "each",
        (Kind::Local, Repeat::Once) => "local",
        (Kind::Local, Repeat::If(_)) => "local_if",
        (Kind::Local, Repeat::Each { .. }) => "local_each",
        (Kind::Child, Repeat::Once) => "child",
        (Kind::Child, Repeat::If(_)) => "child_if",
        (Kind::Child, Repeat::Each { .. }) => "child_each",
        (Kind::Delay(_), Repeat::If(_)) => "delay_if",
        (Kind::Delay(_), Repeat::Once | Repeat::Each { .. }) => "delay",
    }
}

/// Returns the name of a node as an expression.
fn node_name(krate: &syn::Path, node: &Node) -> TokenStream {
    let step = &node.step;
    match &node.name {
        Some(name) => name.to_token_stream(),
        None => {
            let krate = relocate(krate, step.span());
            match node.kind {
                Kind::External | Kind::Local => quote_spanned!(step.span()=> <#step as #krate::DeclaredStep>::NAME),
                Kind::Child => quote_spanned!(step.span()=> <#step as #krate::DeclaredSaga<_, _>>::NAME),
                Kind::Delay(_) => quote_spanned!(step.span()=> "delay"),
            }
        }
    }
}

/// Returns the handles of the inputs: one handle, or a tuple.
fn inputs(node: &Node) -> TokenStream {
    match &*node.inputs {
        [input] => self::input(input, node.inputs_span),
        inputs => tuple(inputs, node.inputs_span),
    }
}

fn input(input: &Input, span: Span) -> TokenStream {
    match input {
        Input::Handle(handle) => handle.to_token_stream(),
        Input::Tuple(inputs) => tuple(inputs, span),
    }
}

fn tuple(inputs: &[Input], span: Span) -> TokenStream {
    let inputs = inputs.iter().map(|input| self::input(input, span));
    quote_spanned!(span=> (#(#inputs),*))
}

/// Returns a condition without outer parentheses, which the compiler would report in a closure.
fn without_parentheses(condition: &Expr) -> &Expr {
    match condition {
        Expr::Paren(paren) => without_parentheses(&paren.expr),
        condition => condition,
    }
}

/// Returns the pattern of the inputs, which binds those that the condition mentions, and the bound names.
fn pattern(node: &Node, condition: TokenStream) -> (TokenStream, Vec<&Ident>) {
    let mut names = BTreeSet::new();
    collect_names(condition, &mut names);
    let mut unbound = names.clone();
    let pattern = match &*node.inputs {
        [input] => input_pattern(input, &mut unbound),
        inputs => tuple_pattern(inputs, &mut unbound),
    };
    // Each bound name once.
    let is_bound = |handle: &&Ident| names.remove(&handle.to_string());
    (pattern, node.input_handles().into_iter().filter(is_bound).collect())
}

fn input_pattern(input: &Input, names: &mut BTreeSet<String>) -> TokenStream {
    match input {
        Input::Tuple(inputs) => tuple_pattern(inputs, names),
        // The name is removed, because a pattern binds a name once.
        Input::Handle(handle) if names.remove(&handle.to_string()) => handle.to_token_stream(),
        Input::Handle(_) => quote!(_),
    }
}

fn tuple_pattern(inputs: &[Input], names: &mut BTreeSet<String>) -> TokenStream {
    let inputs: Vec<TokenStream> = inputs.iter().map(|input| input_pattern(input, names)).collect();
    quote!((#(#inputs),*))
}

fn collect_names(tokens: TokenStream, names: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => drop(names.insert(ident.to_string())),
            TokenTree::Group(group) => collect_names(group.stream(), names),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Generates a check of each name of a node: it differs from the names of the earlier nodes.
fn name_checks(declaration: &SagaDeclaration) -> Vec<TokenStream> {
    let krate = &declaration.head.krate;
    let mut earlier: Vec<TokenStream> = Vec::new();
    let mut checks = Vec::new();
    for node in nodes(declaration) {
        let (name, span) = (node_name(krate, node), node.step.span());
        if !earlier.is_empty() {
            let step = node.step.to_token_stream().to_string().replace(' ', "");
            let message = Literal::string(&format!(
                "the node of `{step}` has the name of an earlier node: name it with `as \"another-name\"`"
            ));
            let krate = relocate(krate, span);
            checks.push(quote_spanned! {span=>
                const _: () = #krate::__private::check_node_name(#name, &[#(#earlier),*], #message);
            });
        }
        earlier.push(name);
    }
    checks
}
