//! The embedded world: API server, node and autoscaler in one process.
//!
//! The parts communicate only through the Kubernetes API: the node and the autoscaler have a client whose requests go to
//! the API server's router without a socket, and the API server gets logs and metrics as on a cluster, through the
//! kubelet's and the aggregated APIs' routers.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use flyball_apiserver::{ApiResource, ApiServer, OpenError};
use flyball_controller::{AllowedHosts, Answers, Autoscaler, Features, VpaMetrics};
use flyball_local::{Image, ImageMap};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admission;
use crate::cli::WorldOptions;
use crate::place::WorldFolder;
use crate::runtimes::PartRuntime;

/// The default port of the Kubernetes API, as on a cluster.
const API_PORT: u16 = 6443;
/// The default port of the Prometheus API: the node port of Prometheus in the example.
const PROMETHEUS_PORT: u16 = 30300;
/// Names, beside those of this machine, by which pods reach the Prometheus API.
const PROMETHEUS_NAMES: [&str; 2] = ["*.svc", "*.svc.cluster.local"];
/// The interval of the vertical recommender and updater: the window over which usage is measured here.
const VERTICAL_INTERVAL: Duration = Duration::from_secs(5);
/// The name of the only node.
const NODE: &str = "flyball";
/// Time limit for stopping the autoscaler, which only writes its state.
const AUTOSCALER_STOP_MAX: Duration = Duration::from_secs(10);
/// The field manager of objects that this program installs.
const FIELD_MANAGER: &str = "flyball-up";
/// The image of the pod that represents this program; it prints the log.
const OWN_IMAGE: &str = "flyball";
const OWN_NAMESPACE: &str = "flyball-system";

/// The running parts, and their addresses.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) api: SocketAddr,
    pub(crate) prometheus: SocketAddr,
    pub(crate) notices: Vec<String>,
    /// The time from the start of the world until the API answers.
    pub(crate) api_ready_after: Duration,
    server: ApiServer,
    serving: JoinHandle<std::io::Result<()>>,
    node: flyball_local::World,
    autoscaler: Autoscaler,
    stop: CancellationToken,
    /// The runtimes of node, autoscaler and Prometheus API; they end with the world.
    _runtimes: [PartRuntime; 3],
}

/// The open ports and parsed images of a world, checked before any file is touched.
pub(crate) struct Listeners {
    api: TcpListener,
    prometheus: TcpListener,
    images: ImageMap,
    notices: Vec<String>,
}

impl Listeners {
    /// Binds the ports and parses the images.
    pub(crate) async fn open(options: &WorldOptions) -> Result<Listeners> {
        let mut images = ImageMap::default();
        for text in &options.images {
            images.insert_text(text).context("--image")?;
        }
        let (api, api_notice) = listen(options.port, API_PORT, "--port").await?;
        let (prometheus, prometheus_notice) =
            listen(options.prometheus_port, PROMETHEUS_PORT, "--prometheus-port").await?;
        let notices = [api_notice, prometheus_notice].into_iter().flatten().collect();
        Ok(Listeners { api, prometheus, images, notices })
    }
}

impl World {
    /// Starts all parts in `place`; `persistent` keeps the objects there for the next start.
    pub(crate) async fn start(
        place: &WorldFolder,
        persistent: bool,
        listeners: Listeners,
        options: &WorldOptions,
    ) -> Result<World> {
        let started = Instant::now();
        let state_dir = persistent.then(|| state_dir(place));
        let server = ApiServer::open(flyball_apiserver::Options { state_dir })
            .await
            .map_err(|error| cannot_open(place, error))?;
        let client = Client::new(server.router(), "default");
        let (api, prometheus) = (listeners.api.local_addr()?, listeners.prometheus.local_addr()?);
        let stop = CancellationToken::new();

        let vpa_metrics = VpaMetrics::default();
        let features = Features::of(options.features.iter().map(String::as_str))
            .map_err(anyhow::Error::msg)
            .context("--enable-feature")?;
        admission::register(&server, &vpa_metrics, features);
        install_kinds(&client).await?;
        install_own_pod(&client, place).await?;
        let (served, stopped) = (server.clone(), stop.clone().cancelled_owned());
        let serving = tokio::spawn(async move { served.serve(listeners.api, stopped).await });
        flyball_apiserver::write_private(place.kubeconfig(), &server.kubeconfig(api))
            .with_context(|| format!("cannot write `{}`", place.kubeconfig().display()))?;
        let api_ready_after = started.elapsed();

        let runtimes = [
            PartRuntime::new("node", 2)?,
            PartRuntime::new("autoscaler", 2)?,
            PartRuntime::new("prometheus", 1)?,
        ];
        let [for_node, for_autoscaler, for_prometheus] = &runtimes;
        let (router, node_options) = (server.router(), node_options(place, listeners.images)?);
        let node = for_node.run(async move {
            flyball_local::World::start(Client::new(router, "default"), node_options).await
        });
        let node = node.await??;
        server.register_kubelet(NODE, node.kubelet());
        let options = flyball_controller::Options {
            vpa_metrics,
            features,
            ..autoscaler_options(place, persistent, options)
        };
        let router = server.router();
        let autoscaler = for_autoscaler
            .run(async move { Autoscaler::start(Client::new(router, "default"), options).await });
        let autoscaler = autoscaler.await??;
        for api in autoscaler.apis() {
            let resources = api.resources.into_iter().map(api_resource).collect();
            server.register_api(api.group, api.version, resources, api.router);
        }
        let prometheus_router =
            AllowedHosts::new(prometheus.ip(), PROMETHEUS_NAMES).guard(autoscaler.prometheus());
        let (listener, stopped) = (listeners.prometheus.into_std()?, stop.clone().cancelled_owned());
        for_prometheus.spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            axum::serve(listener, prometheus_router).with_graceful_shutdown(stopped).await
        });

        let all_notices = [listeners.notices.as_slice(), server.notices(), node.notices()];
        let notices = all_notices.concat();
        let _runtimes = runtimes;
        Ok(World {
            client,
            api,
            prometheus,
            notices,
            api_ready_after,
            server,
            serving,
            node,
            autoscaler,
            stop,
            _runtimes,
        })
    }

    /// Stops all parts, the autoscaler first; each wait is bounded. Objects stay in the store for the next start. Returns
    /// the parts that did not stop in time.
    pub(crate) async fn stop(self) -> Vec<&'static str> {
        let autoscaler = tokio::time::timeout(AUTOSCALER_STOP_MAX, self.autoscaler.stop()).await.is_ok();
        let pods = self.node.stop().await;
        self.stop.cancel();
        // Requests in progress are answered before the store closes.
        let _ = self.serving.await;
        self.server.close();
        let parts = [(autoscaler, "the autoscaler"), (pods, "a pod")];
        parts.into_iter().filter(|(stopped, _)| !stopped).map(|(_, part)| part).collect()
    }
}

fn cannot_open(place: &WorldFolder, error: OpenError) -> anyhow::Error {
    let hint = match &error {
        OpenError::Damaged { .. } => "; `flyball up --repair` recovers what can be read, and keeps a copy",
        _ => "",
    };
    anyhow::Error::new(error)
        .context(format!("cannot open the state in `{}`{hint}", place.folder().display()))
}

/// Recovers the readable part of a damaged data file in `place`; returns the report, line by line.
pub(crate) fn repair(place: &WorldFolder) -> Result<String> {
    let report = ApiServer::repair(&state_dir(place)).map_err(|error| cannot_open(place, error))?;
    Ok(report.to_string())
}

fn state_dir(place: &WorldFolder) -> PathBuf {
    place.folder().join("api")
}

fn api_resource((plural, kind, namespaced, verbs): (&str, &str, bool, &[&str])) -> ApiResource {
    let verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
    ApiResource { plural: plural.to_owned(), kind: kind.to_owned(), namespaced, verbs }
}

fn autoscaler_options(
    place: &WorldFolder,
    persistent: bool,
    options: &WorldOptions,
) -> flyball_controller::Options {
    flyball_controller::Options {
        keep_scrape_intervals: options.keep_scrape_intervals,
        history: persistent.then(|| place.folder().join("decisions.jsonl")),
        memories: persistent.then(|| place.folder().join("memories.jsonl")),
        vertical_interval: Some(VERTICAL_INTERVAL),
        samples: persistent.then(|| place.folder().join("samples")),
        answers: Answers { absent_services: true, hosts: options.answered_hosts.clone() },
        asked_services: persistent.then(|| place.folder().join("asked-services.json")),
        ..flyball_controller::Options::default()
    }
}

/// Returns the node's options: the given images, and the built-in ones whose names are not among them.
fn node_options(place: &WorldFolder, images: ImageMap) -> Result<flyball_local::Options> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let program = program.to_string_lossy().into_owned();
    let log = place.own_log().to_string_lossy().into_owned();
    let built_in: [(&str, &[&str]); 2] = [
        ("webmakaka/house-price-model", &["serve", "house-price", "--host", "0.0.0.0"]),
        (OWN_IMAGE, &["follow-log", &log]),
    ];
    let mut all = images;
    for (name, arguments) in built_in.iter().filter(|(name, _)| all.get(name).is_none()).collect::<Vec<_>>() {
        let command =
            std::iter::once(program.as_str()).chain(arguments.iter().copied()).map(str::to_owned).collect();
        all.insert(name, Image { command, root: None });
    }
    Ok(flyball_local::Options {
        node_name: NODE.to_owned(),
        images: all,
        init: vec![program, "container-init".to_owned()],
        private: place.private()?,
        ..flyball_local::Options::below(place.folder())
    })
}

/// Binds the wanted port, or the default one; if the default is taken, a free one with a notice.
async fn listen(wanted: Option<u16>, default: u16, flag: &str) -> Result<(TcpListener, Option<String>)> {
    let on = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match (wanted, TcpListener::bind(on(wanted.unwrap_or(default))).await) {
        (_, Ok(listener)) => Ok((listener, None)),
        (Some(port), Err(error)) => {
            bail!("cannot listen on 127.0.0.1:{port}: {error}; choose another with {flag}")
        }
        (None, Err(error)) => {
            let listener = TcpListener::bind(on(0)).await?;
            let port = listener.local_addr()?.port();
            let notice = format!(
                "127.0.0.1:{default} is not available ({error}); using port {port}. Choose one with {flag}"
            );
            Ok((listener, Some(notice)))
        }
    }
}

/// Installs or updates the CustomResourceDefinitions of KEDA, VPA and prometheus-operator; one after the other, since
/// their schemas are large and the memory of one serves the next.
pub(crate) async fn install_kinds(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    for definition in flyball_api::kinds::crds() {
        let name = definition.metadata.name.clone().unwrap_or_default();
        definitions
            .patch(&name, &parameters, &Patch::Apply(&definition))
            .await
            .with_context(|| format!("cannot install the definition of {name}"))?;
    }
    Ok(())
}

/// Installs the Deployment that represents this program, in its own namespace. Of this program's files it sees only the
/// log.
async fn install_own_pod(client: &Client, place: &WorldFolder) -> Result<()> {
    let log = place.own_log_folder();
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": OWN_NAMESPACE } });
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.patch(OWN_NAMESPACE, &parameters, &Patch::Apply(namespace)).await?;
    let labels = json!({ "app.kubernetes.io/name": "flyball" });
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "flyball", "labels": labels },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "containers": [{
                        "name": "flyball",
                        "image": OWN_IMAGE,
                        "volumeMounts": [{ "name": "log", "mountPath": log, "readOnly": true }],
                    }],
                    "volumes": [{ "name": "log", "hostPath": { "path": log, "type": "Directory" } }],
                },
            },
        },
    });
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), OWN_NAMESPACE);
    deployments.patch("flyball", &parameters, &Patch::Apply(deployment)).await?;
    Ok(())
}

/// The folder of an ephemeral world; removed when dropped.
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    pub(crate) fn create() -> Result<Temporary> {
        use std::os::unix::fs::DirBuilderExt;
        let folder = std::env::temp_dir().join(format!("flyball-{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot create `{}`", folder.display()))?;
        Ok(Temporary(folder))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.clone()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
