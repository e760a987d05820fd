//! The real kubectl against a served socket; skipped where kubectl is not installed.

use std::path::Path;
use std::process::Stdio;

use flyball_apiserver::write_private;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::*;

struct Kubectl {
    directory: tempfile::TempDir,
}

impl Kubectl {
    /// Runs a command; returns its exit code, stdout and stderr as one text.
    async fn run(&self, arguments: &str, input: &str) -> (i32, String) {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let mut child = Command::new("kubectl")
            .args(["--kubeconfig", &path("config"), "--cache-dir", &path("cache")])
            .args(arguments.split(' '))
            .env("HOME", self.directory.path())
            .env("KUBE_EDITOR", "sed -i s/replicas:.1$/replicas:\\ 4/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // kubectl may exit without reading its input.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.expect("kubectl ends");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap_or(-1), text.into_owned())
    }

    /// Runs a command that must succeed and print `expected`.
    async fn check(&self, arguments: &str, input: &str, expected: &[&str]) {
        let (code, text) = self.run(arguments, input).await;
        assert_eq!(code, 0, "kubectl {arguments}: {text}");
        for part in expected {
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                words(&text).contains(&words(part)),
                "kubectl {arguments} does not print {part:?}:\n{text}"
            );
        }
    }
}

pub(crate) async fn installed() -> bool {
    let output = Command::new("kubectl").args(["version", "--client"]).output().await;
    let found = output.is_ok_and(|output| output.status.success());
    if !found {
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
        assert!(!in_ci, "kubectl not found; in CI no test may be skipped");
        println!("skipped: kubectl not found");
    }
    found
}

async fn started(directory: tempfile::TempDir) -> Kubectl {
    let server = server().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    write_private(&directory.path().join("config"), &server.kubeconfig(address))
        .expect("the file can be written");
    assert!(Path::new(&directory.path().join("config")).exists());
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await });
    Kubectl { directory }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_works() {
    if !installed().await {
        return;
    }
    let kubectl = started(tempfile::tempdir().expect("there is room for a directory")).await;
    let manifest = deployment("model").to_string();
    kubectl.check("apply -f -", &manifest, &["deployment.apps/model created"]).await;
    kubectl.check("apply -f -", &manifest, &["deployment.apps/model unchanged"]).await;
    let changed = manifest.replace("model:latest", "model:v2");
    kubectl.check("apply -f -", &changed, &["deployment.apps/model configured"]).await;
    let (code, diff) = kubectl.run("diff -f -", &manifest).await;
    assert!(code == 1 && diff.contains("+      - image: model:latest"), "{code} {diff}");
    kubectl.check("get deploy", "", &["NAME READY UP-TO-DATE AVAILABLE AGE", "model 0/1 0 0"]).await;
    kubectl.check("get deploy -o wide", "", &["CONTAINERS IMAGES SELECTOR", "c model:v2 app=model"]).await;
    kubectl.check("edit deploy model", "", &["deployment.apps/model edited"]).await;
    kubectl.check("get deploy model -o jsonpath={.spec.replicas}", "", &["4"]).await;
    kubectl.check("scale deploy model --replicas=2", "", &["deployment.apps/model scaled"]).await;
    kubectl.check("label deploy model tier=web", "", &["deployment.apps/model labeled"]).await;
    kubectl.check("annotate deploy model note=x", "", &["deployment.apps/model annotated"]).await;
    kubectl.check("set image deploy/model c=model:v3", "", &["image updated"]).await;
    kubectl.check("patch deploy model -p {\"spec\":{\"replicas\":3}}", "", &["patched"]).await;
    kubectl.check("autoscale deploy model --min 1 --max 3 --cpu-percent 50", "", &["autoscaled"]).await;
    kubectl
        .check(
            "get hpa",
            "",
            &[
                "NAME REFERENCE TARGETS MINPODS MAXPODS REPLICAS AGE",
                "model Deployment/model cpu: <unknown>/50% 1 3 0",
            ],
        )
        .await;
    kubectl
        .check(
            "describe hpa model",
            "",
            &["(as a percentage of request): <unknown> / 50%", "Max replicas: 3"],
        )
        .await;
    kubectl.check("describe deploy model", "", &["StrategyType: RollingUpdate", "Replicas: 3 desired"]).await;
    kubectl
        .check("create deployment other --image=x --replicas=2", "", &["deployment.apps/other created"])
        .await;
    kubectl.check("create configmap c --from-literal=a=b", "", &["configmap/c created"]).await;
    kubectl.check("create secret generic s --from-literal=a=b", "", &["secret/s created"]).await;
    kubectl.check("create namespace team", "", &["namespace/team created"]).await;
    kubectl.check("expose deploy model --port=80 --target-port=8000", "", &["service/model exposed"]).await;
    kubectl.check("run p --image=x", "", &["pod/p created"]).await;
    kubectl
        .check("get all", "", &["pod/p", "service/model ClusterIP 127.", "deployment.apps/other 0/2"])
        .await;
    kubectl.check("delete deploy other", "", &["deleted"]).await;
    kubectl.check("delete namespace team", "", &["deleted"]).await;
    kubectl.check("wait --for=delete deploy/other --timeout=5s", "", &[]).await;
    kubectl.check("auth whoami", "", &["flyball-admin"]).await;
    kubectl.check("auth can-i create pods", "", &["yes"]).await;
    kubectl.check("version", "", &["Server Version: v1.37"]).await;
    kubectl.check("api-resources", "", &["deployments deploy apps/v1 true Deployment"]).await;
    kubectl.check("explain deployment.spec.replicas", "", &["FIELD: replicas <integer>"]).await;
    kubectl.check("get --raw /healthz", "", &["ok"]).await;
    let (code, text) = kubectl.run("apply -f -", &manifest.replace("\"Deployment\"", "\"Deploymen\"")).await;
    assert!(code == 1 && text.contains("no matches for kind \"Deploymen\" in version \"apps/v1\""), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_works_with_custom_kinds_and_server_side_apply() {
    if !installed().await {
        return;
    }
    let kubectl = started(tempfile::tempdir().expect("there is room for a directory")).await;
    kubectl.check("apply -f -", &crate::crd::widget_definition().to_string(), &["created"]).await;
    kubectl
        .check(
            "wait --for=condition=Established crd/widgets.example.com --timeout=5s",
            "",
            &["condition met"],
        )
        .await;
    let widget = crate::crd::widget(serde_json::json!({"size": 3})).to_string();
    kubectl.check("apply -f -", &widget, &["widget.example.com/w created"]).await;
    kubectl.check("apply -f -", &widget, &["widget.example.com/w unchanged"]).await;
    kubectl.check("apply -f -", &widget.replace("3", "5"), &["widget.example.com/w configured"]).await;
    kubectl.check("get wi", "", &["NAME SIZE READY AGE", "w 5"]).await;
    kubectl.check("explain widget.spec.size", "", &["FIELD: size <integer>"]).await;
    kubectl.check("describe widget w", "", &["Size: 5", "Events: <none>"]).await;
    let (code, text) = kubectl.run("apply -f -", &widget.replace("size", "sise")).await;
    assert!(code == 1 && text.contains("unknown field \"spec.sise\""), "{text}");
    let (code, text) = kubectl.run("apply -f -", &widget.replace("3", "30")).await;
    assert!(code == 1 && text.contains("spec.size in body should be less than or equal to 10"), "{text}");
    kubectl
        .check("apply --server-side -f -", &deployment("model").to_string(), &["serverside-applied"])
        .await;
    let conflict = deployment("model").to_string().replace("model:latest", "model:v2");
    let (code, text) = kubectl.run("apply --server-side --field-manager=other -f -", &conflict).await;
    assert!(code == 1 && text.contains("conflict with \"kubectl\""), "{text}");
    kubectl
        .check(
            "apply --server-side --field-manager=other --force-conflicts -f -",
            &conflict,
            &["serverside-applied"],
        )
        .await;
    kubectl.check("delete -f -", &deployment("model").to_string(), &["deleted"]).await;
    kubectl.check("delete crd widgets.example.com", "", &["deleted"]).await;
    let (_, text) = kubectl.run("get deploy", "").await;
    assert!(text.contains("No resources found in default namespace."), "{text}");
}
