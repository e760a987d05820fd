//! A selector of a query, with the function over it: its series and their values at the time of evaluation, kept up to
//! date from one evaluation to the next.

use super::edges::{EdgeFunction, Edges};
use super::members::Members;
use super::windows::{WindowFunction, Windows, is_timeless};
use crate::promql::ast::*;
use crate::promql::functions::Body;
use crate::promql::grid::{Grid, Name, Row};
use crate::store::{SeriesRef, Store};

/// What is computed of a selector's series.
#[derive(Debug)]
enum State {
    /// Nothing: only the series are known.
    Watched,
    Edges(Edges),
    Windows(Windows),
}

/// A selector, or a function over one, and where it looks.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) members: Members,
    state: State,
    range_ms: i64,
    offset_ms: i64,
    /// Whether the function takes the metric's name away.
    drops_name: bool,
    /// The end of the window at the last evaluation.
    to_ms: Option<i64>,
    /// Some series has native histograms; only the batch engine knows those.
    has_histograms: bool,
    /// Counts the orders that the series have had.
    pub(super) epoch: u64,
    /// The value of each series, in order.
    pub(super) values: Vec<f64>,
    /// Samples that the values were computed from.
    pub(super) samples: usize,
}

/// How a part of a query can be kept up to date: the function and its window.
pub(super) struct Shape<'a> {
    pub(super) selector: &'a VectorSelector,
    /// The window, for a range; a plain selector looks back.
    pub(super) range: Option<&'a DurationExpr>,
    function: Function,
    drops_name: bool,
    /// The argument of `rate` or `increase`, which should be a counter.
    pub(super) counter: Option<&'a Expr>,
}

enum Function {
    Edges(EdgeFunction),
    Windows(WindowFunction, Vec<f64>),
}

impl<'a> Shape<'a> {
    /// The shape of an expression, if it is a plain selector or a function over a range that can be kept up to date.
    pub(super) fn of(expr: &'a Expr) -> Option<Shape<'a>> {
        match expr {
            Expr::Vector(selector) if is_plain(selector) => {
                let function = Function::Edges(EdgeFunction::Newest);
                Some(Shape { selector, range: None, function, drops_name: false, counter: None })
            }
            Expr::Call(call) => Shape::of_call(call),
            _ => None,
        }
    }

    fn of_call(call: &'a Call) -> Option<Shape<'a>> {
        let Body::Window(window_function) = call.function.body else { return None };
        let drops_name = !window_function.keeps_name;
        let mut parameters = Vec::new();
        let mut argument = None;
        for arg in &call.args {
            match arg.unwrap_parens() {
                Expr::Number(number) => parameters.push(number.value),
                Expr::Matrix(matrix) => argument = Some((arg, matrix)),
                _ => return None,
            }
        }
        let (argument, matrix) = argument?;
        if !is_plain(&matrix.vector) || parameters.iter().any(|q| !(0.0..=1.0).contains(q)) {
            return None;
        }
        let name = call.function.name;
        let function = match EdgeFunction::of(name) {
            Some(edges) => Function::Edges(edges),
            None if is_timeless(name) => Function::Windows(window_function.floats, parameters),
            None => return None,
        };
        let counter = matches!(name, "rate" | "increase").then_some(argument);
        Some(Shape { selector: &matrix.vector, range: Some(&matrix.range), function, drops_name, counter })
    }
}

/// Whether a selector looks at the samples up to the time of evaluation, or an offset before it, and at no others.
fn is_plain(selector: &VectorSelector) -> bool {
    selector.shift.at.is_none() && selector.extension.is_none()
}

impl Leaf {
    /// A selector of which only the series are of interest.
    pub(super) fn watched(selector: &VectorSelector) -> Leaf {
        Leaf {
            members: Members::of(&selector.matchers),
            state: State::Watched,
            range_ms: 0,
            offset_ms: 0,
            drops_name: false,
            to_ms: None,
            has_histograms: false,
            epoch: 0,
            values: Vec::new(),
            samples: 0,
        }
    }

    /// A selector with the function of its shape, over a window of `range_ms` that ends `offset_ms` before the evaluation.
    pub(super) fn computed(shape: Shape<'_>, range_ms: i64, offset_ms: i64) -> Leaf {
        let state = match shape.function {
            Function::Edges(function) => State::Edges(Edges::new(function)),
            Function::Windows(function, parameters) => State::Windows(Windows::new(function, parameters)),
        };
        let drops_name = shape.drops_name;
        Leaf { state, range_ms, offset_ms, drops_name, ..Leaf::watched(shape.selector) }
    }

    /// Keeps the series and nothing else.
    pub(super) fn shed(&mut self) {
        self.state = State::Watched;
        self.values = Vec::new();
        self.samples = 0;
    }

    /// Takes in what happened to the series, and works their values out for an evaluation at `time_ms`.
    pub(super) fn update(&mut self, store: &mut Store, time_ms: i64) {
        let to_ms = time_ms.saturating_sub(self.offset_ms);
        let after_ms = to_ms.saturating_sub(self.range_ms);
        let state = &mut self.state;
        let news = self.members.catch_up(store, |row, sample| match state {
            State::Watched => {}
            State::Edges(edges) => edges.push(row, sample),
            State::Windows(windows) => windows.forget(row),
        });
        self.epoch += u64::from(news.reordered);
        let dropped = news.kept_from_ms.is_some_and(|kept_from_ms| kept_from_ms > after_ms);
        let backwards = self.to_ms.is_some_and(|before_ms| before_ms > to_ms);
        let is_full = matches!(&self.state, State::Edges(edges) if edges.is_full());
        self.to_ms = Some(to_ms);
        if news.reread || dropped || backwards || self.has_histograms || (is_full && news.reordered) {
            self.read_all(store, after_ms);
        } else {
            self.read_rows(store, &news.born, after_ms);
        }
        self.samples = match &mut self.state {
            State::Watched => 0,
            State::Edges(edges) if edges.is_full() => 0,
            State::Edges(edges) => edges.values(self.members.order(), after_ms, to_ms, &mut self.values),
            State::Windows(windows) => {
                windows.values(store, &self.members, (after_ms, to_ms), &mut self.values)
            }
        };
    }

    fn read_all(&mut self, store: &Store, after_ms: i64) {
        self.has_histograms = false;
        if let State::Edges(edges) = &mut self.state {
            edges.clear(self.members.rows());
        }
        let rows = self.members.order().to_vec();
        self.read_rows(store, &rows, after_ms);
    }

    fn read_rows(&mut self, store: &Store, rows: &[u32], after_ms: i64) {
        match &mut self.state {
            State::Watched => return,
            State::Edges(edges) => edges.make_room(self.members.rows()),
            State::Windows(windows) => windows.make_room(self.members.rows()),
        }
        for row in rows {
            if let Some(series) = store.series(self.members.id(*row)) {
                self.has_histograms |= !series.histograms(after_ms, i64::MAX, &mut Vec::new()).is_empty();
                self.read_row(series, *row, after_ms);
            }
        }
    }

    fn read_row(&mut self, series: SeriesRef<'_>, row: u32, after_ms: i64) {
        match &mut self.state {
            State::Watched => {}
            State::Windows(windows) => windows.forget(row),
            State::Edges(edges) => {
                edges.fill(row, series.samples(after_ms, i64::MAX, &mut Vec::new()));
            }
        }
    }

    /// Whether the values are those that the batch engine would find.
    pub(super) fn is_right(&self) -> bool {
        match &self.state {
            State::Watched => false,
            State::Edges(edges) => !self.has_histograms && !edges.is_full(),
            State::Windows(_) => !self.has_histograms,
        }
    }

    pub(super) fn drops_name(&self) -> bool {
        self.drops_name
    }

    /// A series as a row of a grid.
    pub(super) fn row(&self, place: usize) -> Row {
        let name = if self.drops_name { Name::Dropped } else { Name::Kept };
        Row { labels: self.members.labels(self.members.order()[place]).clone(), name }
    }

    /// A grid of one row for each series, its values left out.
    pub(super) fn empty_rows(&self) -> Grid {
        let mut grid = Grid::new(1);
        for place in 0..self.members.order().len() {
            grid.push(self.row(place));
        }
        grid
    }

    pub(super) fn bytes(&self) -> usize {
        let state = match &self.state {
            State::Watched => 0,
            State::Edges(edges) => edges.bytes(),
            State::Windows(windows) => windows.bytes(),
        };
        state + self.members.bytes() + self.values.capacity() * size_of::<f64>()
    }
}
