//! The state that the loop writes and the APIs read.

use std::sync::Arc;

use flyball_metrics::Store;
use parking_lot::Mutex;

use crate::decide::vertical::joint::Joint;
use crate::features::Features;
use crate::gather::scrape::pools::SharedPools;
use crate::gather::scrape::status::TargetStatus;
use crate::gather::source::servers::Servers;
use crate::gather::usage::UsageLog;
use crate::keep::history::History;
use crate::tell::serve::external_metrics::Values;
use crate::tell::serve::questions::Questions;
use crate::tell::telemetry::Telemetry;

/// Handles to the shared state; cloning one clones the handles.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) features: Features,
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) questions: Questions,
    pub(crate) usage: Arc<Mutex<UsageLog>>,
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) values: Values,
    pub(crate) targets: Arc<Mutex<Vec<TargetStatus>>>,
    pub(crate) telemetry: Telemetry,
    pub(crate) joint: Joint,
    pub(crate) pools: SharedPools,
    pub(crate) servers: Servers,
}
