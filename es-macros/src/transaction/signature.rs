//! The signature of a transaction: asynchronous, with `tx: &mut Tx` first, and a `Result` with two types.

use syn::visit::Visit;
use syn::{FnArg, GenericArgument, PatType, Path, PathArguments, ReturnType, Signature, Type, TypeImplTrait, TypePath};

use crate::ctxt::Ctxt;
use crate::generics::ungroup;

/// What the signature of a transaction consists of.
pub(super) struct Checked {
    /// The index of `tx: &mut Tx` among the parameters.
    pub(super) tx_index: usize,
    /// The `Value` of `Result<Value, Error>`.
    pub(super) value: Type,
    /// The `Error` of `Result<Value, Error>`.
    pub(super) error: Type,
}

/// Reports all mistakes in a signature. Returns `None` if the transaction or the result is not known.
pub(super) fn check(cx: &Ctxt, signature: &Signature) -> Option<Checked> {
    if signature.asyncness.is_none() {
        cx.error_on(signature.fn_token, "a transaction is asynchronous: write `async fn`");
    }
    let tx_index = check_tx(cx, signature);
    let (value, error) = result(cx, signature)?;
    Some(Checked { tx_index: tx_index?, value, error })
}

/// Returns the index of `tx: &mut Tx`.
fn check_tx(cx: &Ctxt, signature: &Signature) -> Option<usize> {
    let index = usize::from(signature.receiver().is_some());
    let place = if index == 0 { "first" } else { "after `self`" };
    let Some(FnArg::Typed(parameter)) = signature.inputs.get(index) else {
        cx.error_on(&signature.ident, format!("missing the parameter of the transaction: add `tx: &mut Tx` {place}"));
        return None;
    };
    let ty = ungroup(&parameter.ty);
    match ty {
        Type::Reference(reference) if is_tx(&reference.elem) => {
            // `'_` is the lifetime that is meant.
            let lifetime = reference.lifetime.as_ref().filter(|lifetime| lifetime.ident != "_");
            if let Some(lifetime) = lifetime {
                cx.error_on(lifetime, "the transaction ends with the function: remove the lifetime of `&mut Tx`");
            } else if reference.mutability.is_none() {
                cx.error_on(ty, "the function enlists participants in the transaction: write `&mut Tx`, found `&Tx`");
            }
            (lifetime.is_none() && reference.mutability.is_some()).then_some(index)
        }
        ty if is_tx(ty) => {
            cx.error_on(ty, "the function borrows the transaction: write `&mut Tx`, found `Tx`");
            None
        }
        _ => {
            report_missing(cx, signature, parameter, place);
            None
        }
    }
}

/// Reports a parameter in the place of the transaction.
fn report_missing(cx: &Ctxt, signature: &Signature, found: &PatType, place: &str) {
    let is_tx = |parameter: &&FnArg| match parameter {
        FnArg::Typed(parameter) => match ungroup(&parameter.ty) {
            Type::Reference(reference) => is_tx(&reference.elem),
            ty => is_tx(ty),
        },
        FnArg::Receiver(_) => false,
    };
    match signature.inputs.iter().find(is_tx) {
        Some(tx) => cx.error_on(tx, format!("the parameter of the transaction must be {place}: move it")),
        None => {
            let message = format!("missing the parameter of the transaction: add `tx: &mut Tx` {place}");
            cx.error_on(found, message);
        }
    }
}

/// Returns the types of the `Result` that a function returns.
fn result(cx: &Ctxt, signature: &Signature) -> Option<(Type, Type)> {
    let ReturnType::Type(_, ty) = &signature.output else {
        let message = "a transaction commits or aborts by its result: write `-> Result<Value, Error>`";
        cx.error_on(&signature.ident, message);
        return None;
    };
    let last = match ungroup(ty) {
        Type::Path(TypePath { path, .. }) => path.segments.last(),
        _ => None,
    };
    let Some(last) = last.filter(|last| last.ident.to_string().ends_with("Result")) else {
        cx.error_on(ty, "a transaction commits or aborts by its result: return a `Result<Value, Error>`");
        return None;
    };
    let arguments: Vec<&GenericArgument> = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => arguments.args.iter().collect(),
        _ => Vec::new(),
    };
    match &*arguments {
        [GenericArgument::Type(value), GenericArgument::Type(error)] if last.ident == "Result" => {
            let is_named = [value, error].map(|ty| check_named(cx, ty));
            (is_named == [true, true]).then(|| (value.clone(), error.clone()))
        }
        _ => {
            let message = "the macro must see both types of the result, and a type alias hides one: write it out as \
                           `Result<Value, Error>`";
            cx.error_on(ty, message);
            None
        }
    }
}

/// Reports an `impl Trait` in a type of the result, and returns whether there is none: the body of the function becomes
/// an asynchronous closure, whose result the compiler must be able to name.
fn check_named(cx: &Ctxt, ty: &Type) -> bool {
    struct FirstImplTrait<'ast>(Option<&'ast TypeImplTrait>);
    impl<'ast> Visit<'ast> for FirstImplTrait<'ast> {
        fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
            self.0.get_or_insert(ty);
        }
    }
    let mut search = FirstImplTrait(None);
    search.visit_type(ty);
    if let Some(ty) = search.0 {
        cx.error_on(ty, "a transaction cannot return `impl Trait`: name the type, or return a `Box<dyn Trait>`");
    }
    search.0.is_none()
}

fn is_tx(ty: &Type) -> bool {
    let is_tx = |path: &Path| path.segments.last().is_some_and(|last| last.ident == "Tx");
    matches!(ungroup(ty), Type::Path(TypePath { path, .. }) if is_tx(path))
}
