//! A world for a test, and ways to wait for what it does.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use flyball_apiserver::ApiServer;
use flyball_local::{Image, ImageMap, Options, World};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tower::ServiceExt;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_flyball-local-test-program");

/// A kind that lives in namespaces.
pub(crate) trait Namespaced:
    Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + DeserializeOwned
    + serde::Serialize
    + Send
    + 'static
{
}

impl<K> Namespaced for K where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + serde::Serialize
        + Send
        + 'static
{
}

pub(crate) struct TestWorld {
    pub(crate) client: Client,
    pub(crate) world: Option<World>,
    pub(crate) server: ApiServer,
    dir: TempDir,
}

impl TestWorld {
    pub(crate) async fn start() -> Self {
        let server = ApiServer::open(flyball_apiserver::Options { state_dir: None }).await.unwrap();
        let client = Client::new(server.router(), "default");
        let mut test = TestWorld { client, world: None, server, dir: tempfile::tempdir().unwrap() };
        test.begin().await;
        test
    }

    /// Starts the world, the first time or again.
    pub(crate) async fn begin(&mut self) {
        let mut options = Options::below(self.dir.path());
        options.images = images();
        options.init = vec![PROGRAM.to_owned(), "container-init".to_owned()];
        let world = World::start(self.client.clone(), options).await.unwrap();
        self.server.register_kubelet("flyball", world.kubelet());
        self.world = Some(world);
    }

    /// Stops the world, which has to be done in time.
    pub(crate) async fn end(&mut self) {
        if let Some(world) = self.world.take() {
            assert!(world.stop().await, "the world has not stopped in time");
        }
    }

    /// Where the world keeps logs and volumes.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Whether this machine lets a test do what it is about; says so if not.
    pub(crate) fn lacks(&self, what: &str) -> bool {
        let notices = self.world.as_ref().unwrap().notices();
        let refused = notices.iter().any(|notice| notice.contains(what));
        if refused {
            println!("skipped: {notices:?}");
        }
        refused
    }

    pub(crate) fn api<K: Namespaced>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn create<K: Namespaced>(&self, object: Value) -> K {
        let object: K = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    pub(crate) async fn patch<K: Namespaced>(&self, name: &str, patch: Value) -> K {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
    }

    pub(crate) async fn until<K: Namespaced>(
        &self,
        name: &str,
        what: &str,
        condition: impl Condition<K>,
    ) -> Option<K> {
        let waited = tokio::time::timeout(PATIENCE, await_condition(self.api::<K>(), name, condition)).await;
        match waited {
            Ok(object) => object.unwrap(),
            Err(_) => {
                let shown = serde_json::to_value(self.api::<K>().get_opt(name).await.unwrap()).unwrap();
                panic!("{name}: not {what}: {}; events {:#?}", shown["status"], self.events(name).await)
            }
        }
    }

    /// Waits for an object that `condition` holds for.
    pub(crate) async fn until_some<K: Namespaced>(
        &self,
        name: &str,
        what: &str,
        condition: impl Fn(&K) -> bool,
    ) -> K {
        self.until(name, what, |object: Option<&K>| object.is_some_and(&condition)).await.unwrap()
    }

    pub(crate) async fn until_gone<K: Namespaced>(&self, name: &str) {
        self.until(name, "gone", |object: Option<&K>| object.is_none()).await;
    }

    /// The pods of an app, when there are so many and all are ready and none is going.
    pub(crate) async fn until_ready(&self, app: &str, count: usize) -> Vec<Pod> {
        let params = ListParams::default().labels(&format!("app={app}"));
        let mut watch = Watch::pods(self.client.clone()).await;
        loop {
            let pods = self.api::<Pod>().list(&params).await.unwrap().items;
            if pods.len() == count && pods.iter().all(is_ready) {
                return pods;
            }
            watch.next(&format!("{app}: {count} ready pods; there are {:#?}", summary(&pods))).await;
        }
    }

    pub(crate) async fn events(&self, name: &str) -> Vec<(String, String)> {
        let all = self.api::<Event>().list(&ListParams::default()).await.unwrap();
        let about = |event: &Event| event.involved_object.name.as_deref() == Some(name);
        all.into_iter()
            .filter(about)
            .map(|event| (event.reason.unwrap_or_default(), event.message.unwrap_or_default()))
            .collect()
    }

    /// Waits for an event about an object.
    pub(crate) async fn until_event(&self, name: &str, reason: &str) -> String {
        let mut watch = Watch::events(self.client.clone()).await;
        loop {
            let events = self.events(name).await;
            if let Some((_, message)) = events.iter().find(|(r, _)| r == reason) {
                return message.clone();
            }
            watch.next(&format!("{name}: event {reason}; there are {events:#?}")).await;
        }
    }

    /// Asks the node.
    pub(crate) async fn kubelet(&self, path: &str) -> (StatusCode, String) {
        let router = self.world.as_ref().unwrap().kubelet();
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    pub(crate) async fn cluster_ip(&self, service: &str) -> String {
        self.api::<Service>().get(service).await.unwrap().spec.unwrap().cluster_ip.unwrap()
    }
}

/// Wakes on changes of one kind.
struct Watch(std::pin::Pin<Box<dyn futures::Stream<Item = ()> + Send>>);

impl Watch {
    async fn pods(client: Client) -> Self {
        Self::of::<Pod>(client).await
    }

    async fn events(client: Client) -> Self {
        Self::of::<Event>(client).await
    }

    async fn of<K: Namespaced>(client: Client) -> Self {
        use futures::StreamExt;
        let events = kube::runtime::watcher(Api::<K>::namespaced(client, "default"), Default::default());
        Watch(Box::pin(events.map(drop)))
    }

    async fn next(&mut self, what: &str) {
        use futures::StreamExt;
        if tokio::time::timeout(PATIENCE, self.0.next()).await.is_err() {
            panic!("waited in vain for {what}");
        }
    }
}

fn images() -> ImageMap {
    let mut images = ImageMap::default();
    let image = |args: &[&str]| Image {
        command: std::iter::once(PROGRAM).chain(args.iter().copied()).map(str::to_owned).collect(),
        root: None,
    };
    images.insert("test/server", image(&["serve"]));
    images.insert("test/hungry", image(&["eat-memory"]));
    images.insert("test/holder", image(&["hold-memory"]));
    images.insert("test/shell", Image { command: vec!["sh".into()], root: None });
    images
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
        && pod.metadata.deletion_timestamp.is_none()
}

/// Status and reason of a pod's condition.
pub(crate) fn condition(pod: &Pod, kind: &str) -> Option<(String, String)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|c| c.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone().unwrap_or_default()))
}

fn summary(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(|pod| format!("{} {:?}", pod.name_any(), pod.status)).collect()
}

pub(crate) fn container(pod: &Pod) -> k8s_openapi::api::core::v1::ContainerStatus {
    pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].clone()
}

/// A pod of one container.
pub(crate) fn pod(name: &str, container: Value) -> Value {
    let mut whole = json!({"name": "main", "image": "test/shell"});
    json_patch::merge(&mut whole, &container);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [whole], "terminationGracePeriodSeconds": 2}})
}

/// A Deployment of the test server, and a Service in front of it.
pub(crate) fn deployment(name: &str, replicas: i32) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{
            "name": "server", "image": "test/server:latest",
            "ports": [{"containerPort": 8000}],
            "readinessProbe": {"httpGet": {"path": "/", "port": 8000}}}]}}}})
}

pub(crate) fn service(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 8080, "targetPort": 8000}]}})
}

/// One connection to an HTTP server, kept.
pub(crate) struct HttpClient(hyper::client::conn::http1::SendRequest<Full<Bytes>>);

impl HttpClient {
    pub(crate) async fn connect(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(HttpClient(sender))
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<(u16, String), hyper::Error> {
        self.0.ready().await?;
        let request = Request::get(path).header("host", "test").body(Full::default()).unwrap();
        let response = self.0.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// What a file of the control group of a pod's container `main` says, by its name in version 1 and in version 2.
pub(crate) fn limit_file(pod: &Pod, restarts: i32, v1: &str, v2: &str) -> Option<String> {
    let group = format!("{}_main_{restarts}", pod.uid().unwrap());
    let mut folders: Vec<PathBuf> = vec!["/sys/fs/cgroup".into()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && entry.file_name().to_string_lossy() == group {
                let read = |name: &str| std::fs::read_to_string(Path::new(&entry.path()).join(name)).ok();
                if let Some(text) = read(v1).or_else(|| read(v2)) {
                    return Some(text.trim().to_owned());
                }
            } else if is_folder {
                folders.push(entry.path());
            }
        }
    }
    None
}
