//! What is wanted of a trigger's metric.

use crate::quantity::{Format, Quantity};

/// What is wanted of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerTarget {
    /// An amount for each replica.
    AverageValue(Quantity),
    /// An amount in total, whatever the number of replicas.
    Value(Quantity),
    /// Percent of what the pods request.
    Utilization(i32),
}

impl TriggerTarget {
    /// An amount for each replica, or in total.
    pub(super) fn amount(value: f64, average: bool) -> TriggerTarget {
        let amount = quantity(value);
        if average { TriggerTarget::AverageValue(amount) } else { TriggerTarget::Value(amount) }
    }
}

/// A value as KEDA passes it on: to three decimals, and 0 where it is negative or not finite.
pub fn quantity(value: f64) -> Quantity {
    let value = if value.is_finite() { value.max(0.0) } else { 0.0 };
    Quantity::parse(&format!("{value:.3}")).unwrap_or(Quantity::from_units(i64::MAX, Format::DecimalSi))
}
