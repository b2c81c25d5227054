//! The lines of a saga.

use std::time::Duration;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, ExprPath, LitStr, Token, parenthesized};

use crate::duration;

/// A line of a saga.
pub(super) enum Line {
    /// `let handle = node`, or a node whose output is not used.
    Node { handle: Option<Ident>, node: Box<Node> },
    /// `pivot`
    Pivot(Ident),
    /// The name of a handle, which is the output of the saga.
    Handle(Ident),
}

/// A node of the graph.
pub(super) struct Node {
    pub(super) repeat: Repeat,
    pub(super) kind: Kind,
    /// The type of the step or of the child saga; `delay` for a delay.
    pub(super) step: ExprPath,
    pub(super) inputs: Vec<Input>,
    /// The span of the inputs with their parentheses.
    pub(super) inputs_span: Span,
    /// The name of the node: `as "name"`.
    pub(super) name: Option<LitStr>,
    /// The handles of other nodes that must be finished first: `after a, b`.
    pub(super) after: Vec<Ident>,
}

/// How a step is added to the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A `SagaStep`.
    External,
    /// A `LocalStep`: `local Step(input)`.
    Local,
    /// A `DeclaredSaga`: `child Saga(input)`.
    Child,
    /// `delay("3d")`, with the inputs of its condition.
    Delay(Duration),
}

/// How often a step is executed.
pub(super) enum Repeat {
    Once,
    /// `if condition { ... }`
    If(Expr),
    /// `for item in list { ... }`
    Each {
        item: Ident,
        list: Ident,
    },
}

/// An input of a step.
pub(super) enum Input {
    Handle(Ident),
    Tuple(Vec<Self>),
}

impl Input {
    /// Calls a function with each handle, in order.
    pub(super) fn for_each_handle<'a>(&'a self, visit: &mut impl FnMut(&'a Ident)) {
        match self {
            Self::Handle(handle) => visit(handle),
            Self::Tuple(inputs) => inputs.iter().for_each(|input| input.for_each_handle(visit)),
        }
    }
}

impl Node {
    /// Returns the handles in the inputs, in order.
    pub(super) fn input_handles(&self) -> Vec<&Ident> {
        let mut handles = Vec::new();
        self.inputs.iter().for_each(|input| input.for_each_handle(&mut |handle| handles.push(handle)));
        handles
    }
}

const NODE: &str = "expected a step with its inputs, as in `ReserveStock(order)`";

impl Parse for Line {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(Token![let]) {
            return let_line(input);
        }
        if let Some((ident, rest)) = input.cursor().ident()
            && rest.eof()
        {
            let ident_again: Ident = input.call(Ident::parse_any)?;
            return Ok(if ident == "pivot" { Self::Pivot(ident_again) } else { Self::Handle(ident_again) });
        }
        Ok(Self::Node { handle: None, node: Box::new(input.parse()?) })
    }
}

fn let_line(input: ParseStream<'_>) -> syn::Result<Line> {
    let let_token: Token![let] = input.parse()?;
    let is_name = input.peek(syn::Ident) && input.peek2(Token![=]);
    if !is_name {
        let message = "expected a name and a step, as in `let stock = ReserveStock(order)`: a handle has no pattern \
                       and no type";
        return Err(syn::Error::new(let_token.span, message));
    }
    let handle: Ident = input.parse()?;
    input.parse::<Token![=]>()?;
    Ok(Line::Node { handle: Some(handle), node: Box::new(input.parse()?) })
}

impl Parse for Node {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(Token![if]) {
            input.parse::<Token![if]>()?;
            let condition = Expr::parse_without_eager_brace(input)?;
            let node = block(input, "if order.total > 0 { CheckFraud(order) }")?;
            if input.peek(Token![else]) {
                let message = "a saga has no `else`: add a second `if` with the opposite condition";
                return Err(input.error(message));
            }
            return Ok(Self { repeat: Repeat::If(condition), ..node });
        }
        if input.peek(Token![for]) {
            const EXAMPLE: &str = "for parcel in parcels { Ship(parcel) }";
            let for_token: Token![for] = input.parse()?;
            let (item, list) = for_head(input).map_err(|_| {
                syn::Error::new(for_token.span, format!("expected a name and a handle, as in `{EXAMPLE}`"))
            })?;
            return Ok(Self { repeat: Repeat::Each { item, list }, ..block(input, EXAMPLE)? });
        }
        step(input)
    }
}

fn for_head(input: ParseStream<'_>) -> syn::Result<(Ident, Ident)> {
    let item = input.parse()?;
    input.parse::<Token![in]>()?;
    let list = input.parse()?;
    if input.peek(syn::token::Brace) { Ok((item, list)) } else { Err(input.error("expected `{`")) }
}

/// Parses a node in braces.
fn block(input: ParseStream<'_>, example: &str) -> syn::Result<Node> {
    if !input.peek(syn::token::Brace) {
        return Err(input.error(format!("expected a step in braces, as in `{example}`")));
    }
    let content;
    let brace = syn::braced!(content in input);
    if content.is_empty() {
        return Err(syn::Error::new(brace.span.join(), format!("expected a step in braces, as in `{example}`")));
    }
    let span = content.span();
    let node = step(&content)?;
    if content.peek(Token![;]) {
        content.parse::<Token![;]>()?;
    }
    if content.is_empty() {
        return Ok(node);
    }
    Err(syn::Error::new(span, format!("expected one step in braces, as in `{example}`: repeat the `if` or the `for`")))
}

/// Parses `local Step(inputs) as "name" after handle`, also with `child` or nothing in place of `local`.
fn step(input: ParseStream<'_>) -> syn::Result<Node> {
    if is_keyword(input, "delay") && input.peek2(syn::token::Paren) {
        return delay(input);
    }
    let is_prefix = !input.peek2(syn::token::Paren) && !input.peek2(Token![::]);
    let kind = match [("local", Kind::Local), ("child", Kind::Child)].iter().find(|(word, _)| is_keyword(input, word)) {
        Some((_, kind)) if is_prefix => {
            input.call(Ident::parse_any)?;
            *kind
        }
        _ => Kind::External,
    };
    if is_keyword(input, "saga") && is_prefix {
        return Err(input.error("expected `child` before a child saga, as in `child Ride(city)`"));
    }
    let start = input.span();
    let step: ExprPath = input.parse().map_err(|_| syn::Error::new(start, NODE))?;
    if !input.peek(syn::token::Paren) {
        return Err(syn::Error::new_spanned(step, NODE));
    }
    let content;
    let parentheses = parenthesized!(content in input);
    let inputs = inputs(&content)?;
    let (repeat, inputs_span) = (Repeat::Once, parentheses.span.join());
    let mut node = Node { repeat, kind, step, inputs, inputs_span, name: None, after: Vec::new() };
    modifiers(input, &mut node)?;
    Ok(node)
}

/// Parses `delay("3d", inputs) as "name" after handle`.
fn delay(input: ParseStream<'_>) -> syn::Result<Node> {
    let step = input.parse()?;
    let content;
    let span = parenthesized!(content in input).span.join();
    let text: LitStr =
        content.parse().map_err(|_| syn::Error::new(span, "expected the time of the delay, as in `delay(\"3d\")`"))?;
    let time = duration::from_literal(&text)?;
    if time.is_zero() {
        return Err(syn::Error::new_spanned(text, "a delay must be longer than zero"));
    }
    if !content.is_empty() {
        content.parse::<Token![,]>()?;
    }
    let inputs = inputs(&content)?;
    let (repeat, kind) = (Repeat::Once, Kind::Delay(time));
    let mut node = Node { repeat, kind, step, inputs, inputs_span: span, name: None, after: Vec::new() };
    modifiers(input, &mut node)?;
    Ok(node)
}

fn inputs(input: ParseStream<'_>) -> syn::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    while !input.is_empty() {
        inputs.push(one_input(input)?);
        if !input.is_empty() {
            input.parse::<Token![,]>().map_err(|error| syn::Error::new(error.span(), HANDLE))?;
        }
    }
    Ok(inputs)
}

const HANDLE: &str = "expected handles, separated by commas: an input of a step is the input of the saga or the output \
                      of an earlier line, without a calculation";

fn one_input(input: ParseStream<'_>) -> syn::Result<Input> {
    if input.peek(syn::token::Paren) {
        let content;
        parenthesized!(content in input);
        return Ok(Input::Tuple(inputs(&content)?));
    }
    input.parse().map(Input::Handle).map_err(|error| syn::Error::new(error.span(), HANDLE))
}

fn modifiers(input: ParseStream<'_>, node: &mut Node) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![;]) {
        if input.peek(Token![as]) && node.name.is_none() {
            let token: Token![as] = input.parse()?;
            let name = input.parse().map_err(|_| {
                syn::Error::new(token.span, "expected the name of the node, as in `as \"second-payment\"`")
            })?;
            node.name = Some(name);
        } else if is_keyword(input, "after") && node.after.is_empty() {
            let keyword: Ident = input.call(Ident::parse_any)?;
            node.after = after(input)
                .map_err(|_| syn::Error::new(keyword.span(), "expected handles, as in `after payment, label`"))?;
        } else {
            let message = "expected `as \"name\"`, `after handle` or `;` after the inputs of a step";
            return Err(input.error(message));
        }
    }
    Ok(())
}

fn after(input: ParseStream<'_>) -> syn::Result<Vec<Ident>> {
    let mut handles = vec![input.parse()?];
    while input.peek(Token![,]) {
        input.parse::<Token![,]>()?;
        handles.push(input.parse()?);
    }
    Ok(handles)
}

fn is_keyword(input: ParseStream<'_>, keyword: &str) -> bool {
    input.cursor().ident().is_some_and(|(ident, _)| ident == keyword)
}

/// Returns the tokens of each line, without its semicolon, and whether it has one. A line ends at a semicolon, or with
/// the block of an `if` or a `for`.
pub(super) fn split(tokens: TokenStream) -> Vec<(TokenStream, bool)> {
    let mut lines = Vec::new();
    let mut line: Vec<TokenTree> = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        if is_punct(&token, ';') {
            lines.push((line.drain(..).collect(), true));
            continue;
        }
        let is_block = matches!(&token, TokenTree::Group(group) if group.delimiter() == proc_macro2::Delimiter::Brace);
        line.push(token);
        let continues = match rest.peek() {
            None => true,
            Some(TokenTree::Ident(ident)) => ident == "else",
            Some(TokenTree::Group(group)) => group.delimiter() == proc_macro2::Delimiter::Brace,
            Some(next) => is_punct(next, ';') || !is_statement(&line),
        };
        if is_block && is_statement(&line) && !continues {
            lines.push((line.drain(..).collect(), true));
        }
    }
    if !line.is_empty() {
        lines.push((line.into_iter().collect(), false));
    }
    lines
}

/// Collects the names before the `=` of a line that cannot be parsed.
pub(super) fn collect_declared(tokens: TokenStream, names: &mut Vec<String>) {
    for token in tokens.into_iter().take_while(|token| !is_punct(token, '=')) {
        match token {
            TokenTree::Ident(ident) => names.push(ident.to_string()),
            TokenTree::Group(group) => collect_declared(group.stream(), names),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Returns whether a line starts with `if` or `for`.
fn is_statement(line: &[TokenTree]) -> bool {
    matches!(line.first(), Some(TokenTree::Ident(ident)) if ident == "if" || ident == "for")
}

fn is_punct(token: &TokenTree, punct: char) -> bool {
    matches!(token, TokenTree::Punct(found) if found.as_char() == punct)
}
