//! The command line: commands, flags and their help, without behaviour.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use flyball_controller::{AnsweredHost, Features};

/// Cargo's colours for help; clap drops them where colour is off.
const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Scale model servers to the load within seconds, and explain every decision.
#[derive(Debug, Parser)]
#[command(name = "flyball", version, long_version = crate::cmd::version::LONG, styles = STYLES, after_help = "\
Examples:
  flyball demo                      watch a model scale on this machine, in two minutes
  flyball up                        start a Kubernetes API and an autoscaler on this machine
  export KUBECONFIG=$(flyball kubeconfig)
  kubectl apply -f model.yaml       apply the same manifests as on a cluster
  flyball why deploy/model          show the last decisions and their reasons
  flyball check model.yaml          find mistakes before they are applied")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the embedded Kubernetes API, node and autoscaler on this machine.
    #[command(after_help = "\
Examples:
  flyball up
  flyball up --ephemeral --kubeconfig ./kubeconfig
  flyball up --image my-model='python3 -m uvicorn main:app --port 8000'")]
    Up(Up),
    /// Print the path of the running world's kubeconfig.
    #[command(after_help = "Examples:\n  export KUBECONFIG=$(flyball kubeconfig)")]
    Kubeconfig(WorldFiles),
    /// Serve the house-price model, load it, and watch it scale.
    #[command(after_help = "Examples:\n  flyball demo\n  flyball demo --full\n  flyball demo --output json")]
    Demo(Demo),
    /// Explain the replicas of a target: its last decisions, each with its chain of reasons.
    #[command(after_help = "\
Examples:
  flyball why deploy/model
  flyball why deploy/model --since 10m
  flyball why scaledobject/model-latency -n default --output yaml")]
    Why(Why),
    /// Find mistakes in manifests or in a running world.
    #[command(after_help = "\
Examples:
  flyball check model.yaml                   check the manifests alone
  flyball check -R manifests/ --fail-on warning
  helm template . | flyball check -
  flyball check model.yaml --output sarif    for code scanning
  flyball check model.yaml --live            also use the running world's metrics and pods
  flyball check deploy/model                 check a running workload and everything related to it

Exit codes: 0 no finding at or above --fail-on, 1 findings, 2 an input could not be read.
docs/check.md explains each finding.")]
    Check(Check),
    /// Simulate VerticalPodAutoscalers on recorded usage.
    Vpa(Vpa),
    /// Try an objective and other policies on a load in virtual time, before it meets users.
    #[command(after_help = "\
Examples:
  flyball simulate --load constant:100/s --duration 24h --slo 'p95 < 100ms'
  flyball simulate --load trace.csv.gz --slo 'p99 < 720ms' --profile service=154ms,cv=0.21,startup=35s
  flyball simulate --load step:20/s,200/s@20m --slo 'p95 < 100ms' --policy slo --policy keda:20/s --policy kpa:70%
  flyball simulate --load burst:20/s..200/s:every=10m:for=30s --slo 'p95 < 100ms' --decisions
  flyball simulate --load constant:100/s --slo 'p95 < 100ms' --output json --plot courses.svg

Loads: constant:100/s, ramp:10/s..200/s, step:20/s,200/s@20m,20/s@40m, diurnal:50/s..150/s[:24h],
burst:20/s..200/s:every=10m:for=30s, or a trace: CSV of rates or of times, plain or gzipped.
Policies: slo, hpa:70% (of CPU), keda:70% (of what a replica can do) or keda:20/s, kpa:70%, static:5, clairvoyant.
The same seed gives the same report. docs/simulate.md explains each column.")]
    Simulate(Box<Simulate>),
    /// Query the metrics in PromQL, and explain the result.
    #[command(after_help = "\
Examples:
  flyball query up
  flyball query 'histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket[2m])))'
  flyball query 'sum by (pod) (rate(http_requests_total[1m]))' --range 10m
  flyball query 'sum(rate(http_request_total[1m]))' --explain
  flyball query up --server http://prometheus.example:9090 --output json")]
    Query(Query),
    /// Send HTTP load to a URL, with hey's flags.
    #[command(after_help = "\
Examples:
  flyball load -z 1m -c 50 http://localhost:30100/health
  flyball load -z 3m --rate 200 -m POST -T application/json -D house.json http://localhost:30100/predict
  flyball load -n 1000 -o json http://localhost:8000/

Exit codes: 0 a request was answered, 1 none was, or an argument is wrong, 2 a flag is wrong.")]
    Load(Box<flyball_load::Args>),
    /// Run a built-in model server on its own.
    #[command(after_help = "Examples:\n  flyball serve house-price\n  PORT=8080 flyball serve house-price")]
    Serve(Serve),
    /// Train a built-in model and write the model file.
    #[command(after_help = "\
Examples:
  flyball train house-price --out house-price.model
  flyball train house-price --data sales.csv --out house-price.model")]
    Train(Train),
    /// Print the version, and the versions of Kubernetes, KEDA, VPA and Prometheus that it follows.
    #[command(after_help = "Examples:\n  flyball version\n  flyball version --output json")]
    Version(Version),
    /// Print a shell completion script.
    #[command(after_help = "Examples:\n  flyball completion bash > /etc/bash_completion.d/flyball")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print a log file as it grows; run by the pod `flyball`.
    #[command(hide = true)]
    FollowLog {
        /// The file.
        file: PathBuf,
    },
    /// Start a container's process inside its limits; run by the node.
    #[command(hide = true, disable_help_flag = true)]
    ContainerInit {
        /// The node's arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The folder that keeps the state between starts [default: ~/.local/state/flyball].
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral", env = "FLYBALL_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Start empty and leave nothing behind.
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Recover the readable part of a damaged data file, keep a copy of the file, and start.
    #[arg(long, conflicts_with = "ephemeral")]
    pub(crate) repair: bool,
    /// Write the kubeconfig to this file [default: in the state folder].
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) world: WorldOptions,
}

/// The options that `up` and `demo` share.
#[derive(Debug, Args, Clone)]
pub(crate) struct WorldOptions {
    /// Port of the Kubernetes API on 127.0.0.1; a free one if the default is taken [default: 6443].
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Port of the Prometheus API on 127.0.0.1; a free one if the default is taken [default: 30300].
    #[arg(long, value_name = "PORT")]
    pub(crate) prometheus_port: Option<u16>,
    /// Run COMMAND for containers with image NAME; may be repeated.
    #[arg(long = "image", value_name = "NAME=COMMAND")]
    pub(crate) images: Vec<String>,
    /// Answer triggers with this server address from the built-in store; may be repeated. Services of the cluster domain
    /// that do not exist need no flag.
    #[arg(long = "answer-for", value_name = "HOST[:PORT]")]
    pub(crate) answered_hosts: Vec<AnsweredHost>,
    /// Scrape targets at their monitor's interval even if they feed a trigger, instead of every second.
    #[arg(long)]
    pub(crate) keep_scrape_intervals: bool,
    /// Turn on Prometheus features that are off by default, by Prometheus' names, separated by commas.
    #[arg(long = "enable-feature", value_name = "FEATURE", value_delimiter = ',', value_parser = feature())]
    pub(crate) features: Vec<String>,
}

fn feature() -> clap::builder::PossibleValuesParser {
    Features::names().collect::<Vec<_>>().into()
}

#[derive(Debug, Args)]
pub(crate) struct WorldFiles {
    /// The state folder of the world [default: the running world's].
    #[arg(long, value_name = "DIR", env = "FLYBALL_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Also wait for the scale-in to one replica, about six minutes more.
    #[arg(long)]
    pub(crate) full: bool,
    /// Output format; `json` prints nothing but the report.
    #[arg(long, short, value_enum, default_value_t = DemoOutput::Text)]
    pub(crate) output: DemoOutput,
    #[command(flatten)]
    pub(crate) world: WorldOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DemoOutput {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The workload or its autoscaler, as KIND/NAME: deploy/model, statefulset/model, scaledobject/NAME, hpa/NAME.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// The namespace [default: the kubeconfig's].
    #[arg(long, short)]
    pub(crate) namespace: Option<String>,
    /// Show only decisions of the last DURATION, such as 10m.
    #[arg(long, value_name = "DURATION")]
    pub(crate) since: Option<String>,
    /// Show the decision in force at this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
    /// The number of decisions to show at most, newest last.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) last: usize,
    /// Output format.
    #[arg(long, short, value_enum, default_value_t = WhyOutput::Text)]
    pub(crate) output: WhyOutput,
    /// The kubeconfig of the world [default: that of the running one].
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhyOutput {
    Text,
    Json,
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Output format.
    #[arg(long, short, value_enum, default_value_t = WhyOutput::Text)]
    pub(crate) output: WhyOutput,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Files, folders, - for standard input, or one running target such as deploy/model.
    #[arg(value_name = "FILE|TARGET", required = true)]
    pub(crate) inputs: Vec<String>,
    /// Read folders recursively.
    #[arg(long, short = 'R')]
    pub(crate) recursive: bool,
    /// Also check against the running world: series, scrape targets, history of values, pods and decisions.
    #[arg(long)]
    pub(crate) live: bool,
    /// The namespace of a target [default: the kubeconfig's].
    #[arg(long, short)]
    pub(crate) namespace: Option<String>,
    /// Output format.
    #[arg(long, short, value_enum, default_value_t = CheckOutput::Text)]
    pub(crate) output: CheckOutput,
    /// Show each remark; otherwise text and table only count them.
    #[arg(long)]
    pub(crate) remarks: bool,
    /// The lowest severity that sets exit code 1.
    #[arg(long, value_enum, value_name = "SEVERITY", default_value_t = FailOn::Error)]
    pub(crate) fail_on: FailOn,
    /// The kubeconfig of the world [default: that of the running one].
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckOutput {
    /// Each finding with its reason and the fix.
    Text,
    /// A line for each finding.
    Table,
    Json,
    Yaml,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    Error,
    Warning,
    Info,
    Never,
}

#[derive(Debug, Args)]
pub(crate) struct Vpa {
    #[command(subcommand)]
    pub(crate) command: VpaCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VpaCommand {
    /// Replay recorded usage through the recommenders, or a load through both axes of a target, in virtual time.
    #[command(after_help = "\
Examples:
  flyball vpa simulate usage.csv --plot
  flyball vpa simulate cpu.json --memory memory.json
  flyball vpa simulate requests.csv.gz --mean-cpu 500m --memory-idle 150Mi
  flyball vpa simulate -f model.yaml --load 100m:72h --load 20m:24h --plot

A CSV file has the columns timestamp, cpu (cores) and memory (bytes); a JSON file is Prometheus' response to a range query.
The table leaves out the first day of recorded usage (--warm-up). docs/vertical.md explains its columns.")]
    Simulate(Box<VpaSimulate>),
}

#[derive(Debug, Args)]
pub(crate) struct VpaSimulate {
    /// Recorded usage: CSV, or Prometheus' response to a range query for CPU in cores; plain or gzipped.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Prometheus' response to a range query for memory in bytes.
    #[arg(long, value_name = "FILE")]
    pub(crate) memory: Option<PathBuf>,
    /// The recommenders to run.
    #[arg(long, value_enum, default_value_t = VpaRecommender::Both)]
    pub(crate) recommender: VpaRecommender,
    /// Mean CPU for a file without a column `cpu`, whose numbers are a load of any unit.
    #[arg(long, value_name = "QUANTITY", default_value = "200m")]
    pub(crate) mean_cpu: String,
    /// Memory of an idle server, if none was recorded.
    #[arg(long, value_name = "QUANTITY")]
    pub(crate) memory_idle: Option<String>,
    /// Additional memory for each core in use.
    #[arg(long, value_name = "QUANTITY", default_value = "500Mi", requires = "memory_idle")]
    pub(crate) memory_per_core: String,
    /// Limits as a multiple of requests.
    #[arg(long, value_name = "RATIO", default_value_t = 1.0)]
    pub(crate) limit_ratio: f64,
    /// The time at the beginning that the table leaves out.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub(crate) warm_up: String,
    /// Manifests with a Deployment, a ScaledObject with a cpu trigger, and a VerticalPodAutoscaler.
    #[arg(long = "filename", short = 'f', value_name = "FILE", requires = "loads")]
    pub(crate) manifests: Vec<PathBuf>,
    /// A load in CPU and its duration; may be repeated.
    #[arg(long = "load", value_name = "CPU:DURATION", requires = "manifests", conflicts_with = "files")]
    pub(crate) loads: Vec<String>,
    /// The time that a new pod takes to become ready.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub(crate) startup: String,
    /// Also draw usage and requests over time.
    #[arg(long)]
    pub(crate) plot: bool,
    /// Output format.
    #[arg(long, short, value_enum, default_value_t = VpaOutput::Table)]
    pub(crate) output: VpaOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VpaRecommender {
    /// Both of them.
    Both,
    /// VPA's.
    Default,
    /// Flyball's, which reacts within minutes.
    Flyball,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VpaOutput {
    Table,
    Json,
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// A shape in words such as constant:100/s, or a file of rates or of times.
    #[arg(long, value_name = "LOAD|FILE")]
    pub(crate) load: String,
    /// What is promised, such as 'p95 < 100ms'.
    #[arg(long, value_name = "OBJECTIVE")]
    pub(crate) slo: String,
    /// How long a shape lasts, or how much of a file is taken [default: 1h, or all of a file].
    #[arg(long, value_name = "DURATION")]
    pub(crate) duration: Option<String>,
    /// Leave out so much of the beginning of a load.
    #[arg(long, value_name = "DURATION")]
    pub(crate) from: Option<String>,
    /// So many times as many requests as the load has.
    #[arg(long, value_name = "FACTOR")]
    pub(crate) scale: Option<f64>,
    /// How rates become requests: poisson, even, or bursty:4 (squared variation of the times between them).
    #[arg(long, value_name = "ARRIVALS", default_value = "poisson")]
    pub(crate) arrivals: String,
    /// One replica, as KEY=VALUE,… or a file of such lines: service, cv, concurrency, startup, queue, router
    /// [default: service=20ms,cv=0.5,concurrency=1,startup=35s].
    #[arg(long, value_name = "PROFILE|FILE")]
    pub(crate) profile: Option<String>,
    /// Who decides; may be given several times [default: slo, hpa:70%, keda:70%, kpa:70%].
    #[arg(long = "policy", value_name = "POLICY")]
    pub(crate) policies: Vec<String>,
    /// The fewest replicas.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) min: u32,
    /// The most replicas.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) max: u32,
    /// Replicas that serve at the start [default: as many as the load needs then].
    #[arg(long, value_name = "N")]
    pub(crate) initial: Option<u32>,
    /// Of the random numbers.
    #[arg(long, value_name = "NUMBER", default_value_t = 24)]
    pub(crate) seed: u64,
    /// Also list the changes of replicas, with their reasons.
    #[arg(long)]
    pub(crate) decisions: bool,
    /// Also draw the courses into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// How the report is printed.
    #[arg(long, short, value_enum, default_value_t = SimulateOutput::Table)]
    pub(crate) output: SimulateOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SimulateOutput {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// The query, in PromQL.
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    pub(crate) query: String,
    /// The evaluation time, as RFC 3339 or Unix seconds; with --range, the end of the range [default: now].
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<String>,
    /// Evaluate over the last DURATION, such as 10m, and plot the result.
    #[arg(long, value_name = "DURATION")]
    pub(crate) range: Option<String>,
    /// The time between evaluations of a range, such as 5s [default: a 120th of the range, at least 1s].
    #[arg(long, value_name = "DURATION", requires = "range")]
    pub(crate) step: Option<String>,
    /// Also show the series that each selector matches, the result of each step, and why the result is empty.
    #[arg(long, conflicts_with = "range")]
    pub(crate) explain: bool,
    /// Output format [default: table, or plot with --range].
    #[arg(long, short, value_enum)]
    pub(crate) output: Option<QueryOutput>,
    /// The URL of a Prometheus server [default: the world of the kubeconfig].
    #[arg(long, value_name = "URL", env = "FLYBALL_SERVER", conflicts_with = "kubeconfig")]
    pub(crate) server: Option<String>,
    /// The kubeconfig of the world [default: that of the running one].
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueryOutput {
    Table,
    Plot,
    Json,
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The model to serve.
    #[arg(value_enum)]
    pub(crate) model: Model,
    /// Address of both ports.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    pub(crate) host: std::net::IpAddr,
    /// Port of the model; 0 picks a free one.
    #[arg(long, env = "PORT", default_value_t = 8000)]
    pub(crate) port: u16,
    /// Port of the metrics; 0 picks a free one.
    #[arg(long, env = "METRICS_PORT", default_value_t = 9100)]
    pub(crate) metrics_port: u16,
    /// Number of concurrent predictions.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) worker_threads: usize,
    /// Extra CPU time to spend on each prediction, to simulate a slower model.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    pub(crate) work_milliseconds: u64,
    /// A model file written by `flyball train` [default: the embedded model].
    #[arg(long = "model", value_name = "FILE")]
    pub(crate) model_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Model {
    HousePrice,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    /// The model to train.
    #[arg(value_enum)]
    pub(crate) model: Model,
    /// The sales to train on, as CSV, plain or gzipped [default: the file in the repository].
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,
    /// The model file to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}
