//! The rules about cron triggers: windows that never change, or ask for nothing.

use jiff::Timestamp;

use super::{Facts, Manifests, Origin, Place};
use crate::kinds::scaled_object::ScaledObject;
use crate::trigger::cron::Cron;
use crate::trigger::{Resolved, Trigger, TriggerSource};

/// Every cron trigger that can be read, with its path and the object that has it.
fn windows(manifests: &Manifests) -> Vec<(&Origin, String, Cron)> {
    let crons = manifests.triggers().filter(|(.., trigger)| trigger.kind == "cron");
    crons
        .filter_map(|(origin, path, trigger)| {
            match Trigger::parse(0, trigger, Resolved::default()).0?.source {
                TriggerSource::Cron(cron) => Some((origin, path, cron)),
                _ => None,
            }
        })
        .collect()
}

pub(super) fn never_opens(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let windows = windows(manifests).into_iter();
    windows
        .filter_map(|(origin, path, cron)| {
            let message = match cron.start.next(Timestamp::UNIX_EPOCH, &cron.zone) {
                None => "start is a time that never comes, so the window never opens",
                // Two ways to write one schedule.
                Some(start) if cron.start == cron.end && !cron.is_open(start) => {
                    "end is at the same times as start, so the window never opens"
                }
                Some(_) => return None,
            };
            let help = "write a start that happens, such as \"0 8 * * 1-5\", and an end after it";
            Some(Place::new(origin, format!("{path}.metadata.start"), message, help))
        })
        .collect()
}

/// A window that stays open once it has opened, and one that asks for no more than there always is.
pub(super) fn without_effect(manifests: &Manifests, _: Facts<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for (origin, path, cron) in windows(manifests) {
        let starts = cron.start.next(Timestamp::UNIX_EPOCH, &cron.zone).is_some();
        if starts && cron.end.next(Timestamp::UNIX_EPOCH, &cron.zone).is_none() {
            let message = "end is a time that never comes, so the window stays open";
            let help = "write an end that happens, or minReplicaCount instead of the trigger";
            places.push(Place::new(origin, format!("{path}.metadata.end"), message, help));
        }
        let object = manifests.scaled_objects.iter().find(|object| object.origin == *origin);
        let least = object.map_or(0, |object| always(object));
        if cron.desired_replicas <= least {
            let message =
                format!("asks for {} replicas, and there are always {least}", cron.desired_replicas);
            let help = format!("write more than {least}, lower minReplicaCount, or leave the trigger out");
            places.push(Place::new(origin, format!("{path}.metadata.desiredReplicas"), message, help));
        }
    }
    places
}

/// The replicas that there are whatever the triggers say.
fn always(object: &ScaledObject) -> u32 {
    let least = object.spec.idle_replica_count.unwrap_or(object.spec.min_replicas());
    u32::try_from(least).unwrap_or(0)
}
