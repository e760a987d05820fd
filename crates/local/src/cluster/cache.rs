//! What is known of one kind, and who is told of its changes: the part of an informer that waits for nothing.
//!
//! Three parties meet here: the watch, this process' own writes (which are known before the watch tells of them), and
//! handlers. What holds between them, in every order of their steps:
//!
//! - A handler hears of every object and every change after it has been registered, each once, in the order in which the
//!   cache changed: what it is told as the state before is what it was told last.
//! - An older version never replaces a newer one, and an object that was deleted never comes back.
//! - A list that was taken before an own write does not undo it.
//!
//! So a change and its telling are one step, under one lock; readers take another, which is held for a moment only. A
//! handler may read any cache but change none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use kube::ResourceExt;

#[cfg(test)]
use shuttle::sync::{Mutex, MutexGuard, RwLock};
#[cfg(not(test))]
use std::sync::{Mutex, MutexGuard, RwLock};

use super::informer::{Key, Kind};

type Handler<K> = Box<dyn Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync>;

/// All objects of one kind.
pub(super) struct Cache<K> {
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    turn: Mutex<Turn<K>>,
}

/// What is held while the cache is changed and handlers are told.
struct Turn<K> {
    handlers: Vec<Handler<K>>,
    /// Uids of objects that this process deleted and the watch has not yet seen go.
    deleted: BTreeMap<Key, String>,
    listing: Option<Listing>,
}

/// A list that is being taken in.
#[derive(Default)]
struct Listing {
    listed: BTreeSet<Key>,
    /// Written by this process since before the list was asked for: it may know nothing of them.
    written: BTreeSet<Key>,
    /// Deletions of before: a list without them is the last that is heard of them.
    deleted_before: BTreeMap<Key, String>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        let turn = Turn { handlers: Vec::new(), deleted: BTreeMap::new(), listing: None };
        Cache { objects: RwLock::new(BTreeMap::new()), turn: Mutex::new(turn) }
    }
}

impl<K: Kind> Cache<K> {
    /// A list is about to be asked for.
    pub(super) fn begin_list(&self) {
        let mut turn = self.turn();
        let deleted_before = turn.deleted.clone();
        turn.listing = Some(Listing { deleted_before, ..Listing::default() });
    }

    /// One object of the list.
    pub(super) fn list(&self, object: K) {
        let mut turn = self.turn();
        if let Some(listing) = &mut turn.listing {
            listing.listed.insert(Key::of(&object));
        }
        self.put(&turn, object);
    }

    /// The list is complete: what it lacks is gone. Gives those for which that is not certain, since they were written
    /// meanwhile: who asks for each of them now knows.
    pub(super) fn end_list(&self) -> Vec<Arc<K>> {
        let mut turn = self.turn();
        let Some(listing) = turn.listing.take() else { return Vec::new() };
        turn.deleted
            .retain(|key, uid| listing.listed.contains(key) || listing.deleted_before.get(key) != Some(uid));
        let unlisted = self.all().into_iter().filter(|object| !listing.listed.contains(&Key::of(&**object)));
        let (uncertain, gone): (Vec<_>, Vec<_>) =
            unlisted.partition(|object| listing.written.contains(&Key::of(&**object)));
        for object in gone {
            self.take(&turn, &object);
        }
        uncertain
    }

    /// The watch tells of a new or changed object.
    pub(super) fn applied(&self, object: K) {
        self.put(&self.turn(), object);
    }

    /// The watch tells, or the API server answers, that an object is gone.
    pub(super) fn gone(&self, object: &K) {
        let mut turn = self.turn();
        let key = Key::of(object);
        if turn.deleted.get(&key) == object.uid().as_ref() {
            turn.deleted.remove(&key);
        }
        self.take(&turn, object);
    }

    /// This process has written an object: the API server's answer.
    pub(super) fn written(&self, object: K) {
        let mut turn = self.turn();
        if let Some(listing) = &mut turn.listing {
            listing.written.insert(Key::of(&object));
        }
        self.put(&turn, object);
    }

    /// This process has deleted an object.
    pub(super) fn deleted(&self, object: &K) {
        let mut turn = self.turn();
        // if it is no longer known, the watch has told of it already and will not again
        if self.take(&turn, object) {
            turn.deleted.insert(Key::of(object), object.uid().unwrap_or_default());
        }
    }

    /// Calls `handler` with (before, after) for every change, and once for each object already known.
    pub(super) fn on_change(&self, handler: Handler<K>) {
        let mut turn = self.turn();
        for object in self.all() {
            handler(None, Some(&object));
        }
        turn.handlers.push(handler);
    }

    pub(super) fn read<R>(&self, look: impl FnOnce(&BTreeMap<Key, Arc<K>>) -> R) -> R {
        look(&self.objects.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn all(&self) -> Vec<Arc<K>> {
        self.read(|objects| objects.values().cloned().collect())
    }

    fn turn(&self) -> MutexGuard<'_, Turn<K>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, turn: &Turn<K>, object: K) {
        let key = Key::of(&object);
        if object.uid().is_some_and(|uid| turn.deleted.get(&key) == Some(&uid)) {
            return;
        }
        let object = Arc::new(object);
        let old = {
            let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
            if objects.get(&key).is_some_and(|known| newer_or_same(&**known, &*object)) {
                return;
            }
            objects.insert(key, Arc::clone(&object))
        };
        turn.tell(old.as_ref(), Some(&object));
    }

    /// Whether it was known.
    fn take(&self, turn: &Turn<K>, object: &K) -> bool {
        let key = Key::of(object);
        let old = {
            let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
            let is_known = objects.get(&key).is_some_and(|known| known.uid() == object.uid());
            if is_known { objects.remove(&key) } else { None }
        };
        turn.tell(old.as_ref(), None);
        old.is_some()
    }
}

impl<K> Turn<K> {
    fn tell(&self, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        if old.is_some() || new.is_some() {
            self.handlers.iter().for_each(|handler| handler(old, new));
        }
    }
}

/// Resource versions are compared as numbers, as KEP-5504 allows for; a recreated object always counts as newer.
fn newer_or_same<K: Kind>(known: &K, object: &K) -> bool {
    let version = |o: &K| o.resource_version().and_then(|v| v.parse::<u64>().ok());
    match (version(known), version(object)) {
        (Some(known), Some(new)) => known >= new,
        _ => false,
    }
}

/// Every order in which the parties' steps can come, tried out one by one.
#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;
    use shuttle::thread;

    use super::*;

    type Told = Vec<(Option<u64>, Option<u64>)>;

    fn object(name: &str, version: u64) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {
            "name": name, "namespace": "ns", "uid": name, "resourceVersion": version.to_string()}}))
        .unwrap()
    }

    fn version(object: &Arc<ConfigMap>) -> u64 {
        object.resource_version().unwrap().parse().unwrap()
    }

    /// Registers a handler that writes down what it is told of one name.
    fn listen(cache: &Cache<ConfigMap>, name: &'static str) -> Arc<std::sync::Mutex<Told>> {
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        cache.on_change(Box::new(move |old, new| {
            if old.or(new).is_some_and(|object| object.name_any() == name) {
                sink.lock().unwrap().push((old.map(version), new.map(version)));
            }
        }));
        told
    }

    /// What is told next begins where the last ended, and the last is what the cache has.
    fn assert_consistent(cache: &Cache<ConfigMap>, name: &str, told: &Told) {
        let mut state = None;
        for (old, new) in told {
            assert_eq!(*old, state, "{told:?}");
            state = *new;
        }
        let known = cache.all().into_iter().find(|object| object.name_any() == name);
        assert_eq!(known.as_ref().map(version), state, "{told:?}");
    }

    fn side_by_side(
        steps: impl Fn(Arc<Cache<ConfigMap>>) -> Vec<Box<dyn FnOnce() + Send>>,
    ) -> Arc<Cache<ConfigMap>> {
        let cache = Arc::new(Cache::default());
        let threads: Vec<_> = steps(Arc::clone(&cache)).into_iter().map(thread::spawn).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        cache
    }

    fn check(test: impl Fn() + Send + Sync + 'static) {
        shuttle::check_dfs(test, Some(3_000));
    }

    #[test]
    fn who_registers_during_changes_misses_none() {
        check(|| {
            let told = Arc::new(std::sync::Mutex::new(None));
            let slot = Arc::clone(&told);
            let cache = side_by_side(move |cache| {
                let (writer, slot) = (Arc::clone(&cache), Arc::clone(&slot));
                vec![
                    Box::new(move || (1..=2).for_each(|version| writer.applied(object("a", version)))),
                    Box::new(move || *slot.lock().unwrap() = Some(listen(&cache, "a"))),
                ]
            });
            let told = told.lock().unwrap().take().unwrap();
            assert_consistent(&cache, "a", &told.lock().unwrap());
        });
    }

    #[test]
    fn changes_are_told_in_the_order_in_which_they_came() {
        check(|| {
            let cache = Arc::new(Cache::default());
            let told = listen(&cache, "a");
            let watch = Arc::clone(&cache);
            let writer = Arc::clone(&cache);
            let watch = thread::spawn(move || {
                watch.applied(object("a", 1));
                watch.applied(object("a", 3));
            });
            let writer = thread::spawn(move || {
                writer.written(object("a", 2));
                writer.written(object("a", 4));
            });
            watch.join().unwrap();
            writer.join().unwrap();
            assert_consistent(&cache, "a", &told.lock().unwrap());
            assert_eq!(cache.all().iter().map(version).collect::<Vec<_>>(), [4]);
        });
    }

    #[test]
    fn a_list_of_before_undoes_no_write() {
        check(|| {
            let cache = side_by_side(|cache| {
                let watch = Arc::clone(&cache);
                vec![
                    Box::new(move || {
                        watch.begin_list();
                        watch.list(object("old", 1));
                        // asked for, they turn out to be there
                        for uncertain in watch.end_list() {
                            assert_eq!(uncertain.name_any(), "new");
                        }
                    }),
                    Box::new(move || cache.written(object("new", 2))),
                ]
            });
            let names: Vec<_> = cache.all().iter().map(|object| object.name_any()).collect();
            // written before the list was asked for, an object that the list lacks is gone
            assert!(names == ["new", "old"] || names == ["old"], "{names:?}");
        });
    }

    #[test]
    fn a_list_takes_out_what_it_lacks_unless_it_was_written_since() {
        let test = || {
            let cache = Cache::default();
            cache.applied(object("gone", 1));
            cache.begin_list();
            cache.written(object("new", 2));
            let uncertain = cache.end_list();
            assert_eq!(uncertain.iter().map(|o| o.name_any()).collect::<Vec<_>>(), ["new"]);
            assert_eq!(cache.all().iter().map(|o| o.name_any()).collect::<Vec<_>>(), ["new"]);
            cache.gone(&uncertain[0]);
            assert!(cache.all().is_empty());
        };
        shuttle::check_dfs(test, None);
    }

    #[test]
    fn what_was_deleted_does_not_come_back() {
        check(|| {
            let cache = Arc::new(Cache::default());
            cache.applied(object("a", 1));
            let told = listen(&cache, "a");
            let (watch, writer) = (Arc::clone(&cache), Arc::clone(&cache));
            let watch = thread::spawn(move || {
                watch.applied(object("a", 2)); // of before the deletion
                watch.gone(&object("a", 2));
            });
            let writer = thread::spawn(move || writer.deleted(&object("a", 1)));
            watch.join().unwrap();
            writer.join().unwrap();
            let told = told.lock().unwrap();
            assert_consistent(&cache, "a", &told);
            assert!(cache.all().is_empty());
            assert_eq!(told.iter().filter(|(_, new)| new.is_none()).count(), 1, "{told:?}");
            assert!(cache.turn().deleted.is_empty(), "nothing is remembered for ever");
        });
    }
}
