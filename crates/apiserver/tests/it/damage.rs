//! Damaged data files are reported, never served and never taken for empty; and what a repair saves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use flyball_apiserver::{ApiServer, OpenError, Options};
use serde_json::{Value, json};

use crate::support::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Number of damaged files to try, half of them as a killed server leaves them; `FLYBALL_DAMAGED_FILES` overrides
/// it.
const SEEDS: u64 = 100;

fn options(directory: &Path) -> Options {
    Options { state_dir: Some(directory.to_owned()) }
}

async fn maps(server: &ApiServer) -> BTreeMap<String, Value> {
    let (code, list) = get(server, MAPS).await;
    assert_eq!(code, 200, "{list}");
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items
        .into_iter()
        .map(|item| (item["metadata"]["name"].as_str().unwrap_or_default().into(), item))
        .collect()
}

/// A small random generator, so that a seed reproduces a case.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("it is below a usize")
    }
}

/// Damages a file in one of the usual ways, mostly where its pages are in use.
fn damage(file: &mut Vec<u8>, seed: u64) -> String {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..5 {
        random.below(2);
    }
    let in_use: Vec<usize> = (0..file.len() / 4096)
        .filter(|page| file[page * 4096..][..4096].iter().any(|byte| *byte != 0))
        .collect();
    let page = in_use[random.below(in_use.len())] * 4096;
    let at = page + random.below(4096);
    match seed % 6 {
        0 => {
            file.truncate(at);
            format!("truncated to {at}")
        }
        1 => {
            let bit = random.below(8);
            file[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        2 => {
            file[page..page + 4096].fill(0);
            format!("page at {page} zeroed")
        }
        3 => {
            let end = (at + 1 + random.below(64 << 10)).min(file.len());
            file[at..end].fill(0);
            format!("bytes {at} to {end} zeroed")
        }
        4 => {
            let end = (at + 512).min(file.len());
            file[at..end].iter_mut().for_each(|byte| *byte = random.below(256) as u8);
            format!("bytes {at} to {end} made noise")
        }
        _ => {
            let head = random.below(320);
            file[head] = random.below(256) as u8;
            format!("byte {head} of the head overwritten")
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_told_and_repaired_and_never_taken_for_empty() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let state = directory.path().join("state");
    let server = ApiServer::open(options(&state)).await.expect("the directory is new");
    for index in 0..120 {
        let data = json!({"metadata": {"name": format!("m{index}")}, "data": {"x": "y".repeat(index * 40)}});
        assert_eq!(post(&server, MAPS, &data).await.0, 201);
    }
    for index in 0..20 {
        let change = json!({"data": {"n": index.to_string()}});
        assert_eq!(
            patch(&server, &format!("{MAPS}/m{}", index * 5), "merge-patch+json", &change).await.0,
            200
        );
    }
    let whole = maps(&server).await;
    let file = state.join("objects.redb");
    let killed = fs::read(&file).expect("it is there");
    server.close();
    drop(server);
    let stopped = fs::read(&file).expect("it is there");

    let wanted = std::env::var("FLYBALL_DAMAGED_FILES").ok().and_then(|count| count.parse().ok());
    let seeds: u64 = wanted.unwrap_or(SEEDS);
    let (mut opened, mut refused, mut saved) = (0, 0, 0);
    for seed in 0..seeds {
        let mut bytes = if seed % 2 == 0 { stopped.clone() } else { killed.clone() };
        let what = format!("seed {seed}: {}", damage(&mut bytes, seed / 2));
        fs::write(&file, &bytes).expect("there is room");
        match ApiServer::open(options(&state)).await {
            Ok(server) => {
                opened += 1;
                let found = maps(&server).await;
                // A killed server's file may end with an incomplete commit: this is reported, and only the last
                // commit is lost.
                let last = server.notices().iter().any(|notice| notice.contains("rolled back"));
                assert!(found == whole || (last && seed % 2 == 1 && found.len() == whole.len()), "{what}");
                server.close();
            }
            Err(OpenError::Damaged { path, reason }) => {
                refused += 1;
                assert_eq!(path, file, "{what}: {reason}");
                assert_eq!(fs::read(&file).expect("it is there"), bytes, "{what}: it was changed by looking");
                saved += repaired(&state, &bytes, &whole, &what).await;
            }
            Err(other) => panic!("{what}: {other}"),
        }
    }
    println!(
        "{SEEDS} files: {opened} whole in what counts, {refused} refused and repaired, {saved} objects saved"
    );
    assert!(
        refused > seeds / 4 && saved > refused as usize * whole.len() / 2,
        "{refused} refused, {saved} saved"
    );
}

/// Repairs a damaged file; returns how many objects were saved.
async fn repaired(state: &Path, damaged: &[u8], whole: &BTreeMap<String, Value>, what: &str) -> usize {
    let report = ApiServer::repair(state).expect(what);
    let kept = report.kept.clone().expect(what);
    assert_eq!(fs::read(&kept).expect("it is kept"), damaged, "{what}");
    fs::remove_file(kept).expect("it is there");
    let server = ApiServer::open(options(state)).await.expect(what);
    let found = maps(&server).await;
    server.close();
    let told = report.to_string();
    let before = told.contains("the last changes: the data is as it was before them");
    for (name, object) in whole {
        let said =
            |names: &[String]| names.iter().any(|one| *one == format!("core/configmaps/default/{name}"));
        match found.get(name) {
            None => assert!(!report.lost.is_empty(), "{what}: {name} is gone without a word\n{told}"),
            Some(found) if found == object => {}
            Some(_) => {
                let said = before || said(&report.doubtful) || said(&report.older);
                assert!(said, "{what}: {name} is changed\n{told}");
            }
        }
    }
    found.keys().filter(|name| whole.contains_key(*name)).count()
}

#[tokio::test]
async fn an_empty_file_is_no_empty_world() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let file = directory.path().join("objects.redb");
    for content in [&b""[..], b"redb", b"not a data file at all, but long enough to look at"] {
        fs::write(&file, content).expect("there is room");
        let opened = ApiServer::open(options(directory.path())).await.map(|_| ());
        let Err(error @ OpenError::Damaged { .. }) = opened else { panic!("{content:?} is taken") };
        assert!(error.to_string().contains("nothing was changed"), "{error}");
        let report = ApiServer::repair(directory.path()).expect("there is room");
        assert_eq!((report.saved, report.kept.is_some()), (0, true), "{report}");
        let server = ApiServer::open(options(directory.path())).await.expect("the new file is whole");
        server.close();
        let again = ApiServer::repair(directory.path()).expect("it is whole");
        assert_eq!(again.to_string(), "the data file is intact: nothing to repair");
    }
}

/// Names the state directory of the writer process that runs out of space.
const CRAMPED: &str = "FLYBALL_TEST_CRAMPED_STATE_DIR";

/// Not a separate test: the next test runs it in a process whose files must not grow.
#[tokio::test]
async fn cramped() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Ok(directory) = std::env::var(CRAMPED) else { return };
    let server = ApiServer::open(options(directory.as_ref())).await.expect("the directory is free");
    // Without a handler, the signal that accompanies the error would kill the process.
    let _handled =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(25)).expect("it is SIGXFSZ");
    let before = getrlimit(Resource::Fsize);
    let size = fs::metadata(Path::new(&directory).join("objects.redb")).expect("it is there").len();
    setrlimit(Resource::Fsize, Rlimit { current: Some(size + (256 << 10)), ..before }).expect("it is lower");
    let write = async |name: String| {
        let map = json!({"metadata": {"name": name}, "data": {"x": "y".repeat(50_000)}});
        post(&server, MAPS, &map).await
    };
    let mut failures = 0;
    for index in 0..200 {
        let (code, answer) = write(format!("m{index}")).await;
        match code {
            201 => println!("\nacknowledged m{index}"),
            _ => {
                failures += 1;
                assert_eq!((code, &answer["reason"]), (507, &json!("InsufficientStorage")), "{answer}");
                assert_eq!(get(&server, MAPS).await.0, 200, "reads go on");
            }
        }
        if failures == 5 {
            break;
        }
    }
    assert_eq!(failures, 5, "the room was not used up");
    setrlimit(Resource::Fsize, before).expect("it is as before");
    assert_eq!(write("later".into()).await.0, 201, "with room there again, writes go on without a restart");
    println!("\nacknowledged later");
    server.close();
    println!("\ndone");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let output = tokio::process::Command::new(std::env::current_exe().expect("the test has a file"))
        .args(["--exact", "damage::cramped", "--nocapture"])
        .env(CRAMPED, directory.path())
        .output()
        .await
        .expect("the test starts itself");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("\ndone"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let server = ApiServer::open(options(directory.path())).await.expect("the file is whole");
    let found = maps(&server).await;
    let acknowledged: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("acknowledged ")).collect();
    assert!(acknowledged.len() > 1, "{text}");
    for name in acknowledged {
        assert!(found.contains_key(name), "{name} was acknowledged and is gone");
    }
}
