//! Amounts of CPU and memory, and VPA's arithmetic on them (`pkg/recommender/model/types.go`).
//!
//! An amount is a whole number: millicores of CPU, bytes of memory. Whatever is multiplied is cut off, never rounded,
//! and what leaves an estimator lies between zero and [`AMOUNT_MAX`]. Proportions are computed in 128 bits and saturate,
//! so no quantity that a manifest can hold overflows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `MaxResourceAmount`: what an estimator says when it knows nothing, and the most it ever says.
pub const AMOUNT_MAX: i64 = 100_000_000_000_000;

/// What a container asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// In millicores.
    Cpu,
    /// In bytes.
    Memory,
}

impl Resource {
    /// Both, in the order in which they are listed everywhere.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Memory];

    /// `cpu`, `memory`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    /// An amount as Kubernetes writes it: `250m`, `2`, `262144000`.
    pub fn quantity(self, amount: i64) -> String {
        match self {
            Self::Cpu if amount % 1000 != 0 => format!("{amount}m"),
            Self::Cpu => (amount / 1000).to_string(),
            Self::Memory => amount.to_string(),
        }
    }

    /// An amount as people read it: `250m`, `250.00Mi`.
    pub fn readable(self, amount: i64) -> String {
        match self {
            Self::Cpu => self.quantity(amount),
            Self::Memory => super::format::humanize_memory(amount),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A list of resources, as a container's requests: each there or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// CPU in millicores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<i64>,
    /// Memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
}

impl Resources {
    /// These amounts.
    pub const fn new(cpu_millis: Option<i64>, memory_bytes: Option<i64>) -> Self {
        Self { cpu_millis, memory_bytes }
    }

    /// The amount of one resource, if it is listed.
    pub const fn get(&self, resource: Resource) -> Option<i64> {
        match resource {
            Resource::Cpu => self.cpu_millis,
            Resource::Memory => self.memory_bytes,
        }
    }

    /// The amount of one resource; zero, which means the same almost everywhere, if it is not listed.
    pub fn amount(&self, resource: Resource) -> i64 {
        self.get(resource).unwrap_or(0)
    }

    /// The amount of one resource unless that is zero: a zero bound bounds nothing.
    pub fn bound(&self, resource: Resource) -> Option<i64> {
        self.get(resource).filter(|amount| *amount != 0)
    }

    /// Lists, changes or unlists one resource.
    pub fn set(&mut self, resource: Resource, amount: Option<i64>) {
        match resource {
            Resource::Cpu => self.cpu_millis = amount,
            Resource::Memory => self.memory_bytes = amount,
        }
    }

    /// What is listed.
    pub fn iter(&self) -> impl Iterator<Item = (Resource, i64)> + use<> {
        let own = *self;
        Resource::ALL.into_iter().filter_map(move |resource| Some((resource, own.get(resource)?)))
    }

    /// Each listed amount, changed.
    #[must_use]
    pub fn map(mut self, mut change: impl FnMut(Resource, i64) -> i64) -> Self {
        for (resource, amount) in self.iter() {
            self.set(resource, Some(change(resource, amount)));
        }
        self
    }

    /// These, and from `other` what is not among them.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::new(self.cpu_millis.or(other.cpu_millis), self.memory_bytes.or(other.memory_bytes))
    }

    /// Nothing is listed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Resources {
    /// `cpu 250m, memory 250.00Mi`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed: Vec<String> = self
            .iter()
            .map(|(resource, amount)| format!("{resource} {}", resource.readable(amount)))
            .collect();
        if listed.is_empty() { f.write_str("nothing") } else { f.write_str(&listed.join(", ")) }
    }
}

/// Requests and limits of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerResources {
    /// What the scheduler reserves.
    pub requests: Resources,
    /// What the node enforces.
    pub limits: Resources,
}

/// An estimate as an amount: cut off, between zero and [`AMOUNT_MAX`]. What is not a number is zero, where Go leaves
/// it to the processor.
pub fn clamp_amount(estimate: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "float to integer casts saturate, and this one cuts off"
    )]
    (estimate as i64).clamp(0, AMOUNT_MAX)
}

/// An amount times a factor, cut off.
pub fn scale_amount(amount: i64, factor: f64) -> i64 {
    clamp_amount(amount as f64 * factor)
}

/// Cores as millicores, cut off.
pub fn cpu_from_cores(cores: f64) -> i64 {
    clamp_amount(cores * 1000.0)
}

/// `amount * to / from`, rounded down, and whether it had to be cut to what an `i64` holds. From zero nothing can be
/// scaled, so the amount stays.
pub(crate) fn proportion(amount: i64, from: i64, to: i64) -> (i64, bool) {
    if from == 0 {
        return (amount, false);
    }
    let scaled = (i128::from(amount) * i128::from(to)).div_euclid(i128::from(from));
    let nearest = if scaled < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(scaled).map_or((nearest, true), |scaled| (scaled, false))
}

/// The same, rounded up.
pub(crate) fn proportion_up(amount: i64, from: i64, to: i64) -> i64 {
    let (down, capped) = proportion(amount, from, to);
    let exact = capped || i128::from(down) * i128::from(from) == i128::from(amount) * i128::from(to);
    if exact || from == 0 { down } else { down.saturating_add(1) }
}
