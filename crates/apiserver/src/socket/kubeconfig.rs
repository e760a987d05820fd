//! The kubeconfig: address, CA and token in kubectl's format. It is a secret, and its file is 0600.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;

/// Name of the kubeconfig's cluster, user and context.
const NAME: &str = "flyball";

/// Renders a kubeconfig for `address`.
pub(crate) fn render(address: SocketAddr, ca_pem: &str, token: &str) -> String {
    let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {NAME}\n\
         clusters:\n- name: {NAME}\n  cluster:\n    server: https://{address}\n    certificate-authority-data: {ca}\n\
         users:\n- name: {NAME}\n  user:\n    token: {token}\n\
         contexts:\n- name: {NAME}\n  context:\n    cluster: {NAME}\n    user: {NAME}\n    namespace: default\n"
    )
}

/// Writes a file with mode 0600 atomically: readers see either the old content or the new, never a part.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let file_name = path.file_name().ok_or_else(|| io::Error::other("the path has no file name"))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unique = crate::uid::suffix();
    let temporary = directory.join(format!(".{}.{unique}", file_name.to_string_lossy()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        // Best effort: the write has already failed.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
