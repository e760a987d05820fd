//! Converts Events between the stored core/v1 and events.k8s.io/v1, which renames fields and loses none.

use serde_json::Value;

use crate::object::remove;

/// Names of a field in core/v1 and in events.k8s.io/v1.
const FIELDS: [(&str, &str); 6] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];
const CONTROLLER: [(&str, &str); 2] =
    [("reportingComponent", "reportingController"), ("reportingInstance", "reportingInstance")];

/// Converts core/v1 to events.k8s.io/v1.
pub(super) fn to_events_v1(mut event: Value) -> Value {
    event["apiVersion"] = "events.k8s.io/v1".into();
    rename(&mut event, FIELDS.into_iter().chain(CONTROLLER));
    event
}

/// Converts events.k8s.io/v1 to core/v1.
pub(super) fn to_core_v1(mut event: Value) -> Value {
    event["apiVersion"] = "v1".into();
    rename(&mut event, FIELDS.into_iter().chain(CONTROLLER).map(|(core, events)| (events, core)));
    event
}

fn rename<'a>(event: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    for (from, to) in names {
        if let Some(value) = remove(event, from) {
            event[to] = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_survives_the_way_through_events_v1() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "message": "m", "involvedObject": {"name": "p"}, "count": 2});
        let events = to_events_v1(core.clone());
        assert_eq!((&events["note"], &events["regarding"]["name"]), (&json!("m"), &json!("p")));
        assert_eq!(to_core_v1(events), core);
    }
}
