//! The rules of a saga that the types do not express, or not with a clear message.

use std::collections::BTreeMap;

use proc_macro2::Ident;
use quote::ToTokens;
use syn::visit::Visit;
use syn::{Expr, ExprPath, PatIdent};

use super::line::{Input, Kind, Line, Node, Repeat};
use super::parse::SagaDeclaration;
use crate::ctxt::Ctxt;
use crate::saga::MAX_INPUTS;
use crate::saga::options::{check_name, is_valid_name};
use crate::suggest;

/// What a handle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handle {
    /// A value.
    Value,
    /// The output of a step with a condition.
    Optional,
}

/// The state of the check: what the lines so far declare.
struct Checker<'a> {
    cx: &'a Ctxt,
    /// The type of the saga.
    saga: &'a Ident,
    handles: BTreeMap<String, Handle>,
    /// The handles that any line declares.
    declared: Vec<String>,
    /// The names in lines with a syntax error, which may be handles.
    unreadable: &'a [String],
    /// The names of the nodes, and the steps of nodes without a name of their own.
    nodes: Vec<String>,
    has_pivot: bool,
}

/// Checks a saga and reports errors to `cx`.
pub(super) fn check(cx: &Ctxt, declaration: &SagaDeclaration) {
    let declared = declaration.lines.iter().filter_map(|line| match line {
        Line::Node { handle, .. } => handle.as_ref().map(ToString::to_string),
        Line::Pivot(_) | Line::Handle(_) => None,
    });
    let mut checker = Checker {
        cx,
        saga: &declaration.ident,
        handles: BTreeMap::from([(declaration.input.0.to_string(), Handle::Value)]),
        declared: declared.collect(),
        unreadable: &declaration.unreadable,
        nodes: Vec::new(),
        has_pivot: false,
    };
    if declaration.head.name.is_none() {
        check_derived_name(cx, declaration);
    }
    for line in &declaration.lines {
        checker.line(line);
    }
    if let Some(result) = &declaration.result {
        checker.result(result);
    }
}

/// Reports a type whose name gives no name of a saga, as `Saga::define` would at run time.
fn check_derived_name(cx: &Ctxt, declaration: &SagaDeclaration) {
    let name = declaration.name();
    if !is_valid_name(&name) {
        let message = "the name of a saga consists of ASCII letters, digits, `-`, `_` and `.`, found";
        cx.error_on(&declaration.ident, format!("{message} {name:?}: add `, name = \"...\"` before the lines"));
    }
}

impl Checker<'_> {
    fn line(&mut self, line: &Line) {
        match line {
            Line::Pivot(keyword) => {
                if std::mem::replace(&mut self.has_pivot, true) {
                    self.cx.error_on(keyword, "second `pivot`: a saga has at most one");
                }
            }
            Line::Handle(handle) => {
                self.cx.error_on(handle, "a handle alone has no effect: expected a step, as in `ReserveStock(order)`");
            }
            Line::Node { handle, node } => {
                self.node(node);
                if let Some(handle) = handle {
                    let kind = if matches!(node.repeat, Repeat::If(_)) { Handle::Optional } else { Handle::Value };
                    self.handles.insert(handle.to_string(), kind);
                }
            }
        }
    }

    fn result(&mut self, line: &Line) {
        const OPTIONAL: &str = "the output of a saga cannot have a condition: end with a step that takes this output \
                                as an `Option`";
        match line {
            Line::Pivot(keyword) => {
                self.cx.error_on(keyword, "`pivot` gives no output: end with a step or a handle");
            }
            Line::Handle(handle) => {
                if self.resolve(handle) == Some(Handle::Optional) {
                    self.cx.error_on(handle, OPTIONAL);
                }
            }
            Line::Node { handle: Some(handle), .. } => {
                self.cx.error_on(handle, "`let` gives no output: end with a step or a handle");
            }
            Line::Node { handle: None, node } => {
                self.node(node);
                if let Repeat::If(_) = node.repeat {
                    self.cx.error_on(&node.step, OPTIONAL);
                }
            }
        }
    }

    fn node(&mut self, node: &Node) {
        match &node.repeat {
            Repeat::Each { .. } if matches!(node.kind, Kind::Delay(_)) => {}
            Repeat::Once => self.inputs(node),
            Repeat::If(condition) => {
                self.inputs(node);
                self.condition(condition, node);
            }
            Repeat::Each { item, list } => self.each(item, list, node),
        }
        for handle in &node.after {
            self.resolve(handle);
        }
        if let Kind::Delay(_) = node.kind {
            self.delay(node);
        }
        if node.kind == Kind::Child && node.step.path.is_ident(self.saga) {
            let message = "a saga cannot be its own child saga: each instance would create another one";
            self.cx.error_on(&node.step, message);
        }
        self.node_name(node);
    }

    fn inputs(&self, node: &Node) {
        for handle in node.input_handles() {
            self.resolve(handle);
        }
        if node.inputs.len() > MAX_INPUTS {
            let (found, message) = (node.inputs.len(), format!("a step has at most {MAX_INPUTS} inputs"));
            self.cx.error(node.inputs_span, format!("{message}, found {found}: group some of them in parentheses"));
        }
    }

    /// Returns what a handle stands for, or reports that it is unknown.
    fn resolve(&self, handle: &Ident) -> Option<Handle> {
        let name = handle.to_string();
        if let Some(kind) = self.handles.get(&name) {
            return Some(*kind);
        }
        if self.declared.contains(&name) {
            let message = "is declared by this line or a later one: a step takes outputs of earlier lines only, so a \
                           saga has no cycle";
            self.cx.error_on(handle, format!("`{name}` {message}"));
            return None;
        }
        if self.unreadable.contains(&name) {
            return None;
        }
        let known = || self.handles.keys().map(String::as_str);
        let (expected, hint) = (suggest::expected(known()), suggest::did_you_mean(&name, known()));
        self.cx.error_on(handle, format!("no earlier line gives `{name}`: expected {expected}{hint}"));
        None
    }

    /// Reports the handles in a condition that are not inputs of its step.
    fn condition(&self, condition: &Expr, node: &Node) {
        let inputs = node.input_handles();
        let mut names = Names::default();
        names.visit_expr(condition);
        for name in names.used.into_iter().filter(|name| !names.bound.contains(name)) {
            if self.handles.contains_key(&name.to_string()) && !inputs.contains(&name) {
                self.cx.error_on(
                    name,
                    format!("`{name}` is not an input of the step: a condition depends on the inputs of its step only"),
                );
            }
        }
    }

    fn each(&self, item: &Ident, list: &Ident, node: &Node) {
        if self.resolve(list) == Some(Handle::Optional) {
            self.cx.error_on(list, "a list cannot have a condition: use a step that gives an empty list");
        }
        let is_item = matches!(&*node.inputs, [Input::Handle(input)] if input == item);
        if !is_item {
            self.cx.error(
                node.inputs_span,
                format!("a step in a `for` takes the item only, `({item})`: put what else it needs into the items"),
            );
        }
    }

    fn delay(&self, node: &Node) {
        match &node.repeat {
            Repeat::Once if !node.inputs.is_empty() => {
                let message =
                    "a delay without a condition has no inputs: use `after`, as in `delay(\"3d\") after order`";
                self.cx.error(node.inputs_span, message);
            }
            Repeat::Each { .. } => {
                self.cx
                    .error_on(&node.step, "a delay in a `for`: put it before the `for`, which then starts `after` it");
            }
            Repeat::Once | Repeat::If(_) => {}
        }
    }

    /// Reports a node with the name, or with the step, of an earlier one.
    fn node_name(&mut self, node: &Node) {
        if let Some(name) = &node.name {
            check_name(self.cx, "a node", name);
        }
        let step = node.step.to_token_stream().to_string().replace(' ', "");
        let name = node.name.as_ref().map_or_else(|| step.clone(), |name| format!("{:?}", name.value()));
        if self.nodes.contains(&name) {
            let message = match &node.name {
                Some(_) => format!("duplicate node name {name}: the node of an earlier line has it"),
                None => format!("an earlier node has the step `{step}`, too: name this one, as in `as \"second\"`"),
            };
            match &node.name {
                Some(name) => self.cx.error_on(name, message),
                None => self.cx.error_on(&node.step, message),
            }
        }
        self.nodes.push(name);
    }
}

/// Collects the names in an expression.
#[derive(Default)]
struct Names<'a> {
    used: Vec<&'a Ident>,
    /// The names that a pattern binds, such as the parameter of a closure.
    bound: Vec<&'a Ident>,
}

impl<'a> Visit<'a> for Names<'a> {
    fn visit_expr_path(&mut self, path: &'a ExprPath) {
        self.used.extend(path.path.get_ident());
    }

    fn visit_pat_ident(&mut self, pattern: &'a PatIdent) {
        self.bound.push(&pattern.ident);
        syn::visit::visit_pat_ident(self, pattern);
    }
}
