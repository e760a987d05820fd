//! How many pods each ReplicaSet of a Deployment gets: arithmetic without any I/O.
//!
//! The rules of `pkg/controller/deployment` (`rolling.go`, `sync.go`, `util.ResolveFenceposts`): never more than
//! `replicas + maxSurge` pods, never fewer available ones than `replicas - maxUnavailable`; old pods that are not available go first.
//! When the Deployment is scaled in the middle of a rollout, all its sets grow or shrink in proportion to their size.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A Deployment's wishes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wishes {
    pub(crate) replicas: i32,
    pub(crate) max_surge: i32,
    pub(crate) max_unavailable: i32,
}

/// One ReplicaSet as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Size {
    /// `spec.replicas`.
    pub(crate) wanted: i32,
    /// `status.availableReplicas`.
    pub(crate) available: i32,
    /// `replicas + maxSurge` of the Deployment when this set was last scaled (annotation `max-replicas`).
    pub(crate) max_replicas: Option<i32>,
}

impl Wishes {
    /// Resolves percentages: surge rounds up, unavailable down; both zero would never get on, so one pod may be missing.
    pub(crate) fn new(
        replicas: i32,
        max_surge: Option<&IntOrString>,
        max_unavailable: Option<&IntOrString>,
    ) -> Self {
        let quarter = IntOrString::String("25%".to_owned());
        let max_surge = resolve(max_surge.unwrap_or(&quarter), replicas, true);
        let max_unavailable = resolve(max_unavailable.unwrap_or(&quarter), replicas, false);
        let stuck = max_surge == 0 && max_unavailable == 0;
        let max_unavailable = if stuck { 1 } else { max_unavailable };
        Wishes { replicas, max_surge, max_unavailable: max_unavailable.min(replicas) }
    }

    fn pods_max(self) -> i32 {
        self.replicas + self.max_surge
    }

    pub(crate) fn available_min(self) -> i32 {
        self.replicas - self.max_unavailable
    }
}

fn resolve(value: &IntOrString, total: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|p| p.parse().ok()).unwrap_or(0).max(0);
            let share = percent * i64::from(total);
            i32::try_from(if up { (share + 99) / 100 } else { share / 100 }).unwrap_or(i32::MAX)
        }
    }
}

/// The next size of the new set in a rolling update; `old` are all others.
pub(crate) fn grow_new(wishes: Wishes, new: Size, old: &[Size]) -> i32 {
    if new.wanted >= wishes.replicas {
        return wishes.replicas;
    }
    let all = new.wanted + old.iter().map(|set| set.wanted).sum::<i32>();
    let room = wishes.pods_max() - all;
    if room <= 0 { new.wanted } else { new.wanted + room.min(wishes.replicas - new.wanted) }
}

/// The next sizes of the old sets (oldest first) in a rolling update.
pub(crate) fn shrink_old(wishes: Wishes, new: Size, old: &[Size]) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|set| set.wanted).collect();
    let all = new.wanted + sizes.iter().sum::<i32>();
    let new_unavailable = new.wanted - new.available;
    let mut removable = all - wishes.available_min() - new_unavailable;
    if removable <= 0 {
        return sizes;
    }
    for (size, set) in sizes.iter_mut().zip(old) {
        let unhealthy = (set.wanted - set.available).clamp(0, removable);
        *size -= unhealthy;
        removable -= unhealthy;
    }
    let available: i32 = new.available + old.iter().map(|set| set.available).sum::<i32>();
    let mut surplus = available - wishes.available_min();
    for size in &mut sizes {
        let fewer = (*size).clamp(0, surplus.max(0));
        *size -= fewer;
        surplus -= fewer;
    }
    sizes
}

/// Sizes of all sets after a Deployment in the middle of a rollout was scaled. Larger sets get the rounding's rest.
pub(crate) fn in_proportion(wishes: Wishes, sets: &[Size]) -> Vec<i32> {
    let mut sizes: Vec<i32> = sets.iter().map(|set| set.wanted).collect();
    let total: i32 = sizes.iter().sum();
    if wishes.replicas == 0 {
        return vec![0; sets.len()];
    }
    let to_add = wishes.pods_max() - total;
    if to_add == 0 {
        return sizes;
    }
    let mut order: Vec<usize> = (0..sets.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(sets[*at].wanted));
    let mut left = to_add;
    for at in &order {
        let set = sets[*at];
        let base = set.max_replicas.filter(|max| *max > 0).unwrap_or(total.max(1));
        let exact = (f64::from(set.wanted) * f64::from(wishes.pods_max()) / f64::from(base)).round() as i32;
        let share = exact - set.wanted;
        let share = if to_add > 0 { share.clamp(0, left) } else { share.clamp(left, 0) };
        sizes[*at] += share;
        left -= share;
    }
    if let Some(first) = order.first() {
        sizes[*first] = (sizes[*first] + left).max(0);
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(text: &str) -> IntOrString {
        IntOrString::String(text.to_owned())
    }

    #[test]
    fn percentages_round_surge_up_and_unavailable_down() {
        let check = |replicas, surge, unavailable, expected| {
            let wishes = Wishes::new(replicas, Some(&surge), Some(&unavailable));
            assert_eq!(
                (wishes.max_surge, wishes.max_unavailable),
                expected,
                "{replicas} {surge:?} {unavailable:?}"
            );
        };
        check(4, percent("25%"), percent("25%"), (1, 1));
        check(1, percent("25%"), percent("25%"), (1, 0));
        check(10, percent("25%"), percent("25%"), (3, 2));
        check(3, IntOrString::Int(0), IntOrString::Int(0), (0, 1));
        check(3, IntOrString::Int(0), percent("10%"), (0, 1));
        check(2, IntOrString::Int(5), IntOrString::Int(5), (5, 2));
        check(0, percent("25%"), percent("25%"), (0, 0));
    }

    fn size(wanted: i32, available: i32) -> Size {
        Size { wanted, available, max_replicas: None }
    }

    #[test]
    fn the_new_set_grows_into_the_surge() {
        let wishes = Wishes { replicas: 4, max_surge: 1, max_unavailable: 1 };
        for (new, old, expected) in [
            (size(0, 0), vec![size(4, 4)], 1),
            (size(1, 0), vec![size(4, 4)], 1),
            (size(1, 1), vec![size(3, 3)], 2),
            (size(0, 0), vec![], 4),
            (size(6, 6), vec![], 4),
        ] {
            assert_eq!(grow_new(wishes, new, &old), expected, "{new:?} {old:?}");
        }
    }

    #[test]
    fn old_sets_shrink_without_going_below_the_minimum() {
        let wishes = Wishes { replicas: 4, max_surge: 1, max_unavailable: 1 };
        for (new, old, expected) in [
            (size(0, 0), vec![size(4, 4)], vec![3]),
            (size(1, 0), vec![size(4, 4)], vec![3]),
            (size(2, 0), vec![size(3, 3)], vec![3]),
            (size(2, 2), vec![size(3, 3)], vec![1]),
            (size(1, 0), vec![size(4, 2)], vec![3]),
            (size(2, 2), vec![size(1, 0), size(2, 2)], vec![0, 1]),
            (size(4, 4), vec![size(1, 1)], vec![0]),
        ] {
            assert_eq!(shrink_old(wishes, new, &old), expected, "{new:?} {old:?}");
        }
    }

    #[test]
    fn a_rollout_gets_done_within_its_bounds() {
        for (replicas, surge, unavailable) in
            [(1, 1, 0), (4, 1, 1), (10, 3, 2), (5, 0, 1), (3, 3, 3), (7, 0, 7)]
        {
            let wishes = Wishes { replicas, max_surge: surge, max_unavailable: unavailable };
            let (mut new, mut old) = (size(0, 0), size(replicas, replicas));
            for _ in 0..100 {
                new.wanted = grow_new(wishes, new, &[old]);
                old.wanted = shrink_old(wishes, new, &[old])[0];
                old.available = old.available.min(old.wanted);
                assert!(new.wanted + old.wanted <= replicas + surge, "{wishes:?} {new:?} {old:?}");
                assert!(
                    new.available + old.available >= replicas - unavailable,
                    "{wishes:?} {new:?} {old:?}"
                );
                new.available = new.wanted; // all pods come up
            }
            assert_eq!((new.wanted, old.wanted), (replicas, 0), "{wishes:?}");
        }
    }

    #[test]
    fn scaling_in_the_middle_keeps_the_proportion() {
        let set = |wanted, max| Size { wanted, available: wanted, max_replicas: Some(max) };
        let wishes = |replicas, max_surge| Wishes { replicas, max_surge, max_unavailable: 0 };
        assert_eq!(in_proportion(wishes(20, 3), &[set(8, 13), set(5, 13)]), [14, 9]);
        assert_eq!(in_proportion(wishes(5, 3), &[set(8, 13), set(5, 13)]), [5, 3]);
        assert_eq!(in_proportion(wishes(10, 3), &[set(8, 13), set(5, 13)]), [8, 5]);
        assert_eq!(in_proportion(wishes(0, 3), &[set(8, 13), set(5, 13)]), [0, 0]);
    }
}
