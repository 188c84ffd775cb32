//! From a kubeconfig or a pod's service account to a client.
//! In: a path, or none. Out: a client and the address it speaks to, or one sentence why there is none.
//! Read anew for every attempt: a file that comes later, or a certificate that was renewed, is found.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub async fn connect(kubeconfig: Option<&Path>) -> Result<(Client, String), String> {
    let mut config = configure(kubeconfig).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Watches repeat themselves, and say so in the log; a second layer that repeats in silence would hide a gap.
    config.default_retry = false;
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let client = Client::try_from(config).map_err(|error| format!("{server}: {error}"))?;
    Ok((client, server))
}

async fn configure(named: Option<&Path>) -> Result<Config, String> {
    let options = KubeConfigOptions::default();
    if let Some(path) = named.map(PathBuf::from).or_else(usual_file) {
        let at = |error: &dyn std::fmt::Display| format!("kubeconfig {}: {error}", path.display());
        let file = Kubeconfig::read_from(&path).map_err(|error| at(&error))?;
        return Config::from_custom_kubeconfig(file, &options).await.map_err(|error| at(&error));
    }
    // Several files, which kubectl merges too.
    if std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty()) {
        return Config::from_kubeconfig(&options).await.map_err(|error| format!("KUBECONFIG: {error}"));
    }
    Config::incluster().map_err(|error| {
        format!("no --kubeconfig, no KUBECONFIG, no ~/.kube/config and no service account of a pod: {error}")
    })
}

/// One file of KUBECONFIG, or ~/.kube/config where it exists.
fn usual_file() -> Option<PathBuf> {
    match std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()) {
        Some(value) => {
            let mut files = std::env::split_paths(&value);
            files.next().filter(|_| files.next().is_none())
        }
        None => {
            let home = PathBuf::from(std::env::var_os("HOME")?).join(".kube/config");
            home.is_file().then_some(home)
        }
    }
}
