//! The tree of a formula.

use std::sync::Arc;

use super::function::{Function, Method};
use crate::name::Name;

/// A part of a formula, with the column where it starts or its operator stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) column: usize,
    /// Nodes from here to the deepest leaf; the parser bounds it, and with it every recursion over the tree.
    pub(super) height: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Int(i64),
    Float(f64),
    Bool(bool),
    Nil,
    Text(Arc<str>),
    /// A trigger.
    Name(Name),
    /// A `let` that is in force, counted from the outermost.
    Variable(usize),
    /// `#`, the element a predicate looks at.
    Element,
    /// `#index`, where it stands.
    Index,
    /// `#acc`, what `reduce` has so far.
    Accumulator,
    Array(Vec<Node>),
    Unary(Unary, Box<Node>),
    Binary(Binary, Box<[Node; 2]>),
    /// `a < b <= c`: each operand once, with the signs between them.
    Compare(Vec<Node>, Vec<Comparison>),
    /// Condition, then, else.
    If(Box<[Node; 3]>),
    /// `a ?: b`.
    Elvis(Box<[Node; 2]>),
    /// The value of a variable, and the expression in which it is in force.
    Let(Box<[Node; 2]>),
    /// Expressions of which the last counts.
    Sequence(Vec<Node>),
    /// `array[index]`.
    Item(Box<[Node; 2]>),
    /// `array[from:to]`: the array, then from and to where they are written.
    Slice {
        of: Box<Node>,
        from: Option<Box<Node>>,
        to: Option<Box<Node>>,
    },
    Call(Function, Vec<Node>),
    Method(Method, Box<Node>, Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unary {
    Minus,
    Plus,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
    Range,
    Equal,
    NotEqual,
    In,
    Contains,
    StartsWith,
    EndsWith,
    And,
    Or,
    Coalesce,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Node {
    pub(super) fn children(&self) -> Vec<&Self> {
        match &self.kind {
            Kind::Array(nodes) | Kind::Call(_, nodes) | Kind::Compare(nodes, _) | Kind::Sequence(nodes) => {
                nodes.iter().collect()
            }
            Kind::Unary(_, node) => vec![node],
            Kind::Binary(_, nodes) | Kind::Elvis(nodes) | Kind::Let(nodes) | Kind::Item(nodes) => {
                nodes.iter().collect()
            }
            Kind::If(nodes) => nodes.iter().collect(),
            Kind::Slice { of, from, to } => {
                [Some(of), from.as_ref(), to.as_ref()].into_iter().flatten().map(|node| &**node).collect()
            }
            Kind::Method(_, of, arguments) => std::iter::once(&**of).chain(arguments).collect(),
            _ => Vec::new(),
        }
    }

    /// Adds the triggers this part uses, each once.
    pub(super) fn collect_names(&self, names: &mut Vec<Name>) {
        if let Kind::Name(name) = &self.kind
            && !names.contains(name)
        {
            names.push(name.clone());
        }
        self.children().into_iter().for_each(|node| node.collect_names(names));
    }
}
