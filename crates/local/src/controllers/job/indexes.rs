//! Completion indexes of an `Indexed` Job: as text (`0-2,5`), and on the pods that stand for them.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use kube::ResourceExt;

/// The label and annotation with a pod's index.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// The index that a pod stands for.
pub(super) fn of(pod: &Pod) -> Option<i32> {
    pod.annotations().get(INDEX)?.parse().ok()
}

/// Gives a pod its index: name, host name, label, annotation, and a variable in each container.
pub(super) fn give(job: &Job, pod: &mut Pod, index: i32) {
    let name = format!("{}-{index}", job.name_any());
    pod.metadata.generate_name = Some(format!("{name}-"));
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    pod.metadata.annotations.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    let Some(spec) = &mut pod.spec else { return };
    spec.hostname.get_or_insert(name);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let env = container.env.get_or_insert_default();
        if env.iter().any(|one| one.name == INDEX_VARIABLE) {
            continue;
        }
        let field =
            ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), api_version: None };
        let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
        env.push(EnvVar { name: INDEX_VARIABLE.to_owned(), value_from: Some(source), ..EnvVar::default() });
    }
}

/// Runs of indexes: `0-2,5`; two in a row are `0,1`.
pub(super) fn text(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let texts: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        })
        .collect();
    texts.join(",")
}

/// The indexes below `completions` that a text names; what is not understood names none.
pub(super) fn parse(text: &str, completions: i32) -> BTreeSet<i32> {
    let run = |part: &str| -> Option<(i32, i32)> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    let runs = text.split(',').filter_map(run);
    runs.flat_map(|(first, last)| first.max(0)..last.saturating_add(1).min(completions)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_read_as_they_are_written() {
        for (list, expected) in [
            (vec![], ""),
            (vec![3], "3"),
            (vec![0, 1], "0,1"),
            (vec![0, 1, 2, 5], "0-2,5"),
            (vec![1, 3, 4, 6, 7, 8], "1,3,4,6-8"),
        ] {
            let set: BTreeSet<i32> = list.into_iter().collect();
            assert_eq!(text(&set), expected);
            assert_eq!(parse(expected, 10), set);
        }
        assert_eq!(parse("0-2000000000", 3), BTreeSet::from([0, 1, 2]), "no more than there are");
        assert_eq!(parse("x,2-", 10), BTreeSet::new());
    }
}
