//! Where syslog is listened to: nowhere, unless the configuration says so.

use crate::config::SyslogConfig;
use crate::serve::supervised;
use anyhow::{Context, Result};
use br_ingest::Intake;
use br_ingest::syslog::{SyslogListeners, serve};
use std::sync::Arc;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Binds the addresses that are configured; `None` when none is.
pub(crate) async fn bind(config: &SyslogConfig) -> Result<Option<SyslogListeners>> {
    let cannot = |key: &str, address: &str| format!("bellrock.syslog: cannot listen on {key} {address}");
    let mut listeners =
        SyslogListeners { tcp: None, tls: None, udp: None, tenant: config.tenant(), zone: config.zone()?.to_owned() };
    if let Some(address) = &config.tcp {
        listeners.tcp = Some(TcpListener::bind(address).await.with_context(|| cannot("tcp", address))?);
    }
    if let Some(address) = &config.udp {
        listeners.udp = Some(UdpSocket::bind(address).await.with_context(|| cannot("udp", address))?);
    }
    if let Some(tls) = &config.tls {
        let files = tls.files().server_config().context("bellrock.syslog.tls")?;
        let listener = TcpListener::bind(&tls.listen).await.with_context(|| cannot("tls", &tls.listen))?;
        listeners.tls = Some((listener, files));
    }
    let is_any = listeners.tcp.is_some() || listeners.udp.is_some() || listeners.tls.is_some();
    Ok(is_any.then_some(listeners))
}

pub(crate) fn start(listeners: SyslogListeners, intake: &Arc<Intake>, stopped: &watch::Receiver<bool>) -> JoinHandle<()> {
    supervised("syslog", serve(listeners, intake.clone(), stopped.clone()))
}
