//! The configuration file: Prometheus' own keys, and ours under `bellrock:`.

use crate::redaction::RedactionConfig;
use anyhow::{Context, Result, anyhow, bail};
use br_env::Clock;
use br_events::{EventRule, EventRules};
use br_http::auth::Token;
use br_ingest::files::{FileSource, FilesConfig};
use br_ingest::scrape::{ByteSize, GlobalConfig, PromDuration, ScrapeConfig, expand_pattern};
use br_ingest::syslog::TlsFiles;
use br_model::{Principal, Role, TenantId};
use br_promql::ExprKind;
use br_storage::Table;
use br_tsdb::{RetentionRule, RollupLevel, TsdbOptions};
use br_wire::EnrichPolicy;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) global: GlobalConfig,
    pub(crate) scrape_configs: Vec<ScrapeConfig>,
    /// Files with more of them.
    scrape_config_files: Vec<String>,
    pub(crate) rule_files: Vec<String>,
    pub(crate) bellrock: BellrockConfig,
    /// Parts of a Prometheus configuration that this version reads without acting on them: the start says so.
    alerting: Option<serde_norway::Value>,
    remote_write: Option<serde_norway::Value>,
    remote_read: Option<serde_norway::Value>,
    storage: Option<serde_norway::Value>,
    tracing: Option<serde_norway::Value>,
    otlp: Option<serde_norway::Value>,
    runtime: Option<serde_norway::Value>,
    /// Of the file itself, from which relative paths count.
    #[serde(skip)]
    folder: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BellrockConfig {
    /// The address under which people reach the pages, for links in notifications.
    pub(crate) external_url: Option<String>,
    pub(crate) auth: AuthConfig,
    pub(crate) retention: RetentionConfig,
    /// Old metrics again with fewer samples, finest first.
    pub(crate) rollups: Vec<RollupConfig>,
    pub(crate) limits: LimitsConfig,
    pub(crate) alerts: AlertsConfig,
    /// What is masked before anything is kept.
    pub(crate) redaction: RedactionConfig,
    pub(crate) logs: LogsConfig,
    pub(crate) syslog: SyslogConfig,
    /// Whether spans are counted into metrics.
    pub(crate) span_metrics: bool,
    /// Log files that are followed.
    files: Vec<FilesConfig>,
    /// How long the journal waits for more before it syncs. 0 syncs as soon as the disk is free.
    pub(crate) commit_interval: PromDuration,
    /// How often heads are written to files.
    pub(crate) flush_interval: PromDuration,
}

impl Default for BellrockConfig {
    fn default() -> Self {
        Self {
            external_url: None,
            auth: AuthConfig::default(),
            retention: RetentionConfig::default(),
            rollups: vec![RollupConfig::new(5, 2, 90), RollupConfig::new(60, 10, 400)],
            limits: LimitsConfig::default(),
            alerts: AlertsConfig::default(),
            redaction: RedactionConfig::default(),
            logs: LogsConfig::default(),
            syslog: SyslogConfig::default(),
            span_metrics: true,
            files: Vec::new(),
            commit_interval: PromDuration(Duration::ZERO),
            flush_interval: PromDuration(Duration::from_mins(1)),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AuthConfig {
    pub(crate) tokens: Vec<TokenConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenConfig {
    name: String,
    #[serde(default = "first_tenant")]
    pub(crate) tenant: u32,
    /// `ingest`, `viewer`, `responder` or `admin`.
    role: String,
    token: Option<String>,
    token_file: Option<PathBuf>,
}

/// The secret is never printed.
impl std::fmt::Debug for TokenConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenConfig({})", self.name)
    }
}

fn first_tenant() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetentionConfig {
    pub(crate) metrics: PromDuration,
    pub(crate) logs: PromDuration,
    pub(crate) spans: PromDuration,
    /// How long some metrics are kept; the first rule that matches a series counts.
    pub(crate) rules: Vec<RetentionRuleConfig>,
    /// How long some logs and spans are kept; the first rule that matches a record counts.
    pub(crate) event_rules: Vec<EventRuleConfig>,
    /// Nothing is left of logs and spans that an administrator erases within this.
    pub(crate) erased_within: PromDuration,
    /// How long a file that others have replaced stays for who reads it.
    pub(crate) readers_grace: PromDuration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetentionRuleConfig {
    /// A series selector.
    #[serde(rename = "match")]
    selector: String,
    keep: PromDuration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventRuleConfig {
    /// A stream selector; `level` is the severity of log records, `status` that of spans.
    #[serde(rename = "match")]
    selector: String,
    /// Logs and spans when it does not say.
    of: Option<EventKind>,
    keep: PromDuration,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EventKind {
    Logs,
    Spans,
}

impl EventRuleConfig {
    fn rule(&self) -> Result<EventRule> {
        let place = || format!("bellrock.retention.event_rules: match {:?}", self.selector);
        let expr = br_logql::parse(&self.selector).map_err(|error| anyhow!("{}: {error}", place()))?;
        let br_logql::Expr::Log(log) = expr else { bail!("{}: this is no stream selector", place()) };
        if !log.stages.is_empty() {
            bail!("{}: a rule has no stages: it goes by labels, level and status alone", place());
        }
        if self.keep.0.is_zero() {
            bail!("{}: keep must be longer than 0", place());
        }
        let table = self.of.map(|of| match of {
            EventKind::Logs => Table::Logs,
            EventKind::Spans => Table::Spans,
        });
        for of in [Table::Logs, Table::Spans].into_iter().filter(|of| table.is_none_or(|table| table == *of)) {
            let (name, words) = (EventRules::derived(of), EventRules::words(of));
            let meant =
                log.matchers.iter().find(|matcher| matcher.name == name && !words.iter().any(|word| matcher.matches(word)));
            if meant.is_some() {
                let known: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
                bail!("{}: no {} has such a {name}: it is one of {}", place(), of.as_str(), known.join(", "));
            }
        }
        Ok(EventRule { matchers: log.matchers, table, keep: self.keep.0 })
    }
}

impl RetentionConfig {
    /// `None` where all events of a kind are kept as long as each other.
    pub(crate) fn event_rules(&self, clock: &Arc<dyn Clock>) -> Result<Option<Arc<EventRules>>> {
        let rules: Vec<EventRule> = self.event_rules.iter().map(EventRuleConfig::rule).collect::<Result<_>>()?;
        let rules = (!rules.is_empty()).then(|| EventRules::new(rules, self.logs.0, self.spans.0, clock.clone()));
        Ok(rules.map(Arc::new))
    }

    /// How long a series may be kept at the most.
    pub(crate) fn metrics_max(&self) -> Duration {
        self.rules.iter().map(|rule| rule.keep.0).fold(self.metrics.0, Duration::max)
    }

    pub(crate) fn metric_rules(&self) -> Result<Vec<RetentionRule>> {
        self.rules.iter().map(RetentionRuleConfig::rule).collect()
    }
}

impl RetentionRuleConfig {
    fn rule(&self) -> Result<RetentionRule> {
        let place = || format!("bellrock.retention.rules: match {:?}", self.selector);
        let expr = br_promql::parse(&self.selector).map_err(|errors| anyhow!("{}: {errors}", place()))?;
        let ExprKind::Vector(ref selector) = expr.without_parens().kind else {
            bail!("{}: this is no series selector", place());
        };
        if selector.offset.is_some() || selector.at.is_some() {
            bail!("{}: a rule has no offset and no @", place());
        }
        if self.keep.0.is_zero() {
            bail!("{}: keep must be longer than 0", place());
        }
        Ok(RetentionRule { matchers: selector.matchers.clone(), keep: self.keep.0 })
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        let days = |days: u64| PromDuration(Duration::from_hours(24 * days));
        Self {
            metrics: days(15),
            logs: days(15),
            spans: days(15),
            rules: Vec::new(),
            event_rules: Vec::new(),
            erased_within: days(1),
            readers_grace: PromDuration(Duration::from_mins(5)),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollupConfig {
    interval: PromDuration,
    after: PromDuration,
    keep: PromDuration,
}

impl RollupConfig {
    fn new(minutes: u64, after_days: u64, keep_days: u64) -> Self {
        let days = |days: u64| PromDuration(Duration::from_hours(24 * days));
        Self { interval: PromDuration(Duration::from_mins(minutes)), after: days(after_days), keep: days(keep_days) }
    }

    fn level(self) -> RollupLevel {
        RollupLevel { interval: self.interval.0, after: self.after.0, keep: self.keep.0 }
    }
}

impl Config {
    /// Ours, or what a configuration of Prometheus says under `storage.tsdb`.
    pub(crate) fn out_of_order_window(&self) -> Result<Option<Duration>> {
        let theirs = self.storage.as_ref().and_then(|storage| storage.get("tsdb")?.get("out_of_order_time_window"));
        let theirs = theirs.map(|window| serde_norway::from_value::<PromDuration>(window.clone())).transpose();
        let theirs = theirs.context("storage.tsdb.out_of_order_time_window")?;
        Ok(self.bellrock.limits.out_of_order_time_window.or(theirs).map(|window| window.0))
    }
}

impl BellrockConfig {
    pub(crate) fn rollup_levels(&self) -> Result<Vec<RollupLevel>> {
        let levels: Vec<RollupLevel> = self.rollups.iter().copied().map(RollupConfig::level).collect();
        br_tsdb::check_levels(&levels).context("bellrock.rollups")?;
        Ok(levels)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsConfig {
    pub(crate) query_memory: ByteSize,
    pub(crate) query_timeout: PromDuration,
    /// What all queries may hold together.
    pub(crate) queries_memory: ByteSize,
    pub(crate) queries_at_once: usize,
    /// A request body as it comes, and after decompression.
    pub(crate) body: ByteSize,
    pub(crate) body_decompressed: ByteSize,
    /// While less than this is free on the disk, nothing is taken in.
    pub(crate) disk_free: ByteSize,
    /// Active series of a tenant, and of those that share `job` and `instance`, `job`, or the metric's name. 0 for no limit.
    pub(crate) series: usize,
    pub(crate) series_per_target: usize,
    pub(crate) series_per_job: usize,
    pub(crate) series_per_metric: usize,
    /// How far behind the newest sample of its series a sample may come.
    pub(crate) out_of_order_time_window: Option<PromDuration>,
    /// About what exemplars of a tenant may take in memory between two flushes.
    pub(crate) exemplars: ByteSize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let store = TsdbOptions::default();
        let queries = br_query::door::Limits::default();
        Self {
            query_memory: ByteSize(queries.query_bytes_max),
            query_timeout: PromDuration(queries.timeout),
            queries_memory: ByteSize(queries.queries_bytes_max),
            queries_at_once: queries.concurrent_max,
            body: ByteSize(16 << 20),
            body_decompressed: ByteSize(64 << 20),
            disk_free: ByteSize(256 << 20),
            series: store.series_max,
            series_per_target: store.series_per_target_max,
            series_per_job: store.series_per_job_max,
            series_per_metric: store.series_per_metric_max,
            out_of_order_time_window: None,
            exemplars: ByteSize(store.exemplar_bytes_max as u64),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AlertsConfig {
    pub(crate) webhooks: Vec<WebhookConfig>,
    /// From the first news of a quiet group of alerts to its message.
    pub(crate) group_wait: PromDuration,
    /// Between messages of one group when there is news.
    pub(crate) group_interval: PromDuration,
    /// Between messages without news while something fires.
    pub(crate) repeat_interval: PromDuration,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            webhooks: Vec::new(),
            group_wait: PromDuration(Duration::from_secs(5)),
            group_interval: PromDuration(Duration::from_mins(1)),
            repeat_interval: PromDuration(Duration::from_hours(4)),
        }
    }
}

/// What is looked for in log lines whose senders do not say it themselves.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogsConfig {
    parse_json: bool,
    parse_logfmt: bool,
    find_trace_ids: bool,
    take_time: bool,
}

impl LogsConfig {
    pub(crate) fn policy(self) -> EnrichPolicy {
        EnrichPolicy { json: self.parse_json, logfmt: self.parse_logfmt, trace_ids: self.find_trace_ids, time: self.take_time }
    }
}

/// Listeners for syslog; without an address there is none.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SyslogConfig {
    pub(crate) tcp: Option<String>,
    pub(crate) udp: Option<String>,
    pub(crate) tls: Option<SyslogTlsConfig>,
    /// Whose the messages are: the protocol has no credential.
    tenant: Option<u32>,
    /// Where the clocks of senders are whose messages name no time zone, such as `Europe/Berlin`.
    zone: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SyslogTlsConfig {
    pub(crate) listen: String,
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
}

impl SyslogConfig {
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId(self.tenant.unwrap_or_else(first_tenant))
    }

    pub(crate) fn zone(&self) -> Result<&str> {
        if !self.zone.is_empty() {
            br_wire::syslog::check_zone(&self.zone).map_err(|error| anyhow!("bellrock.syslog.zone: {error}"))?;
        }
        Ok(&self.zone)
    }

    fn set_folder(&mut self, folder: &Path) {
        let Some(tls) = &mut self.tls else { return };
        for file in [Some(&mut tls.cert_file), Some(&mut tls.key_file), tls.client_ca_file.as_mut()].into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }
}

impl SyslogTlsConfig {
    pub(crate) fn files(&self) -> TlsFiles {
        TlsFiles { cert: self.cert_file.clone(), key: self.key_file.clone(), client_ca: self.client_ca_file.clone() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookConfig {
    pub(crate) name: String,
    pub(crate) url: String,
    #[serde(default = "yes")]
    pub(crate) send_resolved: bool,
    pub(crate) authorization: Option<String>,
}

/// The address may hold a secret, as those of chat services do.
impl std::fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WebhookConfig({})", self.name)
    }
}

fn yes() -> bool {
    true
}

impl Config {
    /// Reads the file; relative paths inside it count from its folder.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = read(path)?;
        let mut config: Self = serde_norway::from_str(&text).with_context(|| format!("{}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let absolute = |file: &mut String| *file = folder.join(&*file).display().to_string();
        config.rule_files.iter_mut().for_each(absolute);
        config.scrape_config_files.iter_mut().for_each(absolute);
        config.scrape_configs.iter_mut().for_each(|scrape| scrape.set_folder(folder));
        config.bellrock.syslog.set_folder(folder);
        folder.clone_into(&mut config.folder);
        for pattern in &config.scrape_config_files {
            for file in expand_pattern(Path::new(pattern)) {
                config.scrape_configs.extend(scrape_configs(&file)?);
            }
        }
        Ok(config)
    }

    /// The file as it was read, with every value blanked whose key speaks of a secret. Empty without a file.
    pub(crate) fn shown(path: Option<&Path>) -> Result<String> {
        let Some(path) = path else { return Ok(String::new()) };
        let mut value: serde_norway::Value = serde_norway::from_str(&read(path)?)?;
        blank_secrets(&mut value);
        Ok(serde_norway::to_string(&value)?)
    }

    /// The names of the parts that are read but not acted on.
    pub(crate) fn unused_parts(&self) -> Vec<&'static str> {
        let parts = [
            ("alerting", &self.alerting),
            ("remote_write", &self.remote_write),
            ("remote_read", &self.remote_read),
            ("storage", &self.storage),
            ("tracing", &self.tracing),
            ("otlp", &self.otlp),
            ("runtime", &self.runtime),
        ];
        let query_log = self.global.query_log_file.as_ref().map(|_| "global.query_log_file");
        parts.into_iter().filter(|(_, part)| part.is_some()).map(|(name, _)| name).chain(query_log).collect()
    }

    pub(crate) fn file_sources(&self) -> Result<Vec<FileSource>> {
        Ok(br_ingest::files::sources(&self.bellrock.files, &self.folder)?)
    }

    pub(crate) fn tokens(&self) -> Result<Vec<Token>> {
        self.bellrock.auth.tokens.iter().map(token).collect()
    }
}

/// The jobs of a file that `scrape_config_files` names; its relative paths count from its own folder.
fn scrape_configs(file: &Path) -> Result<Vec<ScrapeConfig>> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct File {
        scrape_configs: Vec<ScrapeConfig>,
    }
    let parsed: File = serde_norway::from_str(&read(file)?).with_context(|| format!("{}", file.display()))?;
    let mut jobs = parsed.scrape_configs;
    for scrape in &mut jobs {
        scrape.set_folder(file.parent().unwrap_or(Path::new("")));
    }
    Ok(jobs)
}

/// Parts of keys whose values are secrets, or may hold one, as the addresses of chat services and the headers and parameters
/// of scrapes do. A key that ends in `_file` names a place, not a secret.
const SECRET_KEYS: [&str; 10] =
    ["token", "password", "credential", "authorization", "secret", "url", "header", "params", "api_key", "hash_key"];

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    // The list of tokens is shown with its names; `external_url` is in every message anyway.
    !matches!(key.as_str(), "tokens" | "external_url")
        && !key.ends_with("_file")
        && (key == "key" || SECRET_KEYS.iter().any(|secret| key.contains(secret)))
}

fn blank_secrets(value: &mut serde_norway::Value) {
    match value {
        serde_norway::Value::Mapping(mapping) => {
            for (key, value) in mapping.iter_mut() {
                if key.as_str().is_some_and(is_secret) { blank(value) } else { blank_secrets(value) }
            }
        }
        serde_norway::Value::Sequence(values) => values.iter_mut().for_each(blank_secrets),
        serde_norway::Value::String(text) => blank_user(text),
        _ => {}
    }
}

/// Blanks the values below; the keys of mappings stay, and `type: Bearer` beside credentials goes with them.
fn blank(value: &mut serde_norway::Value) {
    match value {
        serde_norway::Value::Mapping(mapping) => mapping.iter_mut().for_each(|(key, value)| {
            if !key.as_str().is_some_and(|key| key.ends_with("_file")) {
                blank(value);
            }
        }),
        serde_norway::Value::Sequence(values) => values.iter_mut().for_each(blank),
        // A switch, as those of the rules of redaction, is none.
        serde_norway::Value::Null | serde_norway::Value::Bool(_) => {}
        other => *other = "<secret>".into(),
    }
}

/// Blanks `user:password@` of an address, whatever its key.
fn blank_user(text: &mut String) {
    let Some((scheme, rest)) = text.split_once("://") else { return };
    let authority = rest.split('/').next().unwrap_or(rest);
    if let Some((_, host)) = authority.rsplit_once('@') {
        *text = format!("{scheme}://<secret>@{host}{}", rest.get(authority.len()..).unwrap_or(""));
    }
}

#[allow(clippy::disallowed_methods, reason = "configuration lies outside the data directory")]
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn token(config: &TokenConfig) -> Result<Token> {
    let name = &config.name;
    let role = match config.role.as_str() {
        "ingest" => Role::Ingest,
        "viewer" => Role::Viewer,
        "responder" => Role::Responder,
        "admin" => Role::Admin,
        other => bail!("bellrock.auth.tokens: {name:?}: role {other:?} is none of ingest, viewer, responder, admin"),
    };
    let secret = match (&config.token, &config.token_file) {
        (Some(token), None) => token.clone(),
        (None, Some(file)) => read(file)?.trim().to_owned(),
        _ => bail!("bellrock.auth.tokens: {name:?} needs either token or token_file"),
    };
    let principal = Principal { tenant: TenantId(config.tenant), role, name: name.clone() };
    Ok(Token::new(principal, &secret)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prometheus_file_is_a_valid_configuration() {
        let text = "
            global: { scrape_interval: 15s, external_labels: { zone: a } }
            rule_files: [rules/*.yml]
            scrape_configs: [{ job_name: app, static_configs: [{ targets: ['localhost:8000'] }] }]
            alerting: { alertmanagers: [{ static_configs: [{ targets: ['localhost:9093'] }] }] }
            remote_write: [{ url: 'http://localhost/write' }]";
        let config: Config = serde_norway::from_str(text).expect("valid");
        assert_eq!(config.scrape_configs.len(), 1);
        assert_eq!(config.unused_parts(), ["alerting", "remote_write"]);
    }

    #[test]
    fn secrets_are_not_shown() {
        for text in [
            "bellrock: { auth: { tokens: [{ name: shown, token: hunter2 }] } }",
            "{ n: shown, basic_auth: { username: u, password: hunter2 } }",
            "{ n: shown, authorization: { type: Bearer, credentials: hunter2 } }",
            "{ n: shown, http_headers: { X-Api-Key: { values: [hunter2], secrets: [hunter2] } } }",
            "{ n: shown, params: { token: [hunter2] } }",
            "{ n: shown, oauth2: { client_id: a, client_secret: hunter2 } }",
            "{ n: shown, tls_config: { key: hunter2, key_file: shown } }",
            "{ n: shown, proxy_connect_header: { X-Token: [hunter2] } }",
            "{ n: shown, Authorization: Bearer hunter2 }",
            "{ n: shown, password: 1234hunter2 }",
            "{ n: shown, targets: ['http://u:hunter2@shown:80/metrics'] }",
            "{ token_file: /etc/shown, webhooks: [{ url: 'https://chat/hunter2' }] }",
        ] {
            let mut value = serde_norway::from_str(text).expect("yaml");
            blank_secrets(&mut value);
            let shown = serde_norway::to_string(&value).expect("yaml");
            assert!(!shown.contains("hunter2") && shown.contains("shown"), "{text}\n{shown}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let error =
            serde_norway::from_str::<Config>("bellrock: { retention: { metrics: 15 days } }").expect_err("not a duration");
        assert!(error.to_string().contains("15 days"), "{error}");
        let rules = |text: &str| {
            let config: Config =
                serde_norway::from_str(&format!("bellrock: {{ retention: {{ rules: [{text}] }} }}")).expect("shape");
            config.bellrock.retention.metric_rules().map_err(|error| error.to_string())
        };
        assert_eq!(rules(r#"{ match: '{__name__=~"debug_.*"}', keep: 3d }"#).expect("valid").len(), 1);
        for (text, words) in [
            ("{ match: 'sum(up)', keep: 3d }", "no series selector"),
            ("{ match: 'up{', keep: 3d }", "match \"up{\""),
            ("{ match: '{}', keep: 3d }", "match \"{}\""),
            ("{ match: 'up offset 5m', keep: 3d }", "no offset"),
            ("{ match: up, keep: 0s }", "longer than 0"),
        ] {
            let error = rules(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
        let event_rules = |text: &str| {
            let config: Config =
                serde_norway::from_str(&format!("bellrock: {{ retention: {{ event_rules: [{text}] }} }}")).expect("shape");
            config.bellrock.retention.event_rules.iter().map(EventRuleConfig::rule).collect::<Result<Vec<_>>>()
        };
        for text in [
            r#"{ match: '{service_name="x", level="debug"}', keep: 3d }"#,
            r#"{ match: '{level=~"warn|error"}', of: logs, keep: 3d }"#,
            r#"{ match: '{status="error"}', of: spans, keep: 3d }"#,
        ] {
            assert_eq!(event_rules(text).expect("valid").len(), 1, "{text}");
        }
        for (text, words) in [
            (r#"{ match: 'rate({a="b"}[5m])', keep: 3d }"#, "no stream selector"),
            (r#"{ match: '{a="b"} |= "x"', keep: 3d }"#, "no stages"),
            (r#"{ match: '{a="b"', keep: 3d }"#, r#"event_rules: match "{a=\"b\"""#),
            (r#"{ match: '{a="b"}', keep: 0s }"#, "longer than 0"),
            (r#"{ match: '{level="warning"}', keep: 1d }"#, "trace, debug, info, warn, error, fatal"),
            (r#"{ match: '{status="failed"}', of: spans, keep: 1d }"#, "unset, ok, error"),
        ] {
            let error = event_rules(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(serde_norway::from_str::<Config>("scrape_config: []").is_err(), "a typo in a key");
        let config: Config =
            serde_norway::from_str("bellrock: { auth: { tokens: [{ name: a, role: king, token: 0123456789abcdef }] } }")
                .expect("shape");
        assert!(config.tokens().is_err());
    }
}
