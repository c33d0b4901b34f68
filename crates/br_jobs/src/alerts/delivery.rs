//! Takes messages out of the outbox to their receivers. What is due is read from the catalog, so a restart goes on where it was.

use br_catalog::{Catalog, OutboxItem};
use br_env::{Clock, Rng};
use br_route::{Attempt, Channel, ChannelKind, Decision, RetryPolicy, Webhook, decide, retry_after};
use br_std::{Error, Result};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Messages under way at the same time.
const PARALLEL_MAX: usize = 8;
const DUE_AT_ONCE: u32 = 64;
/// The outbox is looked at this often.
const BEAT: Duration = Duration::from_millis(500);

pub struct DeliveryWorker {
    catalog: Catalog,
    channels: Vec<Channel>,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    policy: RetryPolicy,
}

impl DeliveryWorker {
    pub fn new(
        catalog: Catalog,
        channels: Vec<Channel>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        policy: RetryPolicy,
    ) -> Result<Self> {
        // A redirect could lead a message with its credential anywhere.
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| Error::retry(format!("no HTTP client: {error}")))?;
        Ok(Self { catalog, channels, client, clock, rng, policy })
    }

    /// Until told to stop.
    pub async fn run(self, mut stopped: watch::Receiver<bool>) {
        loop {
            if let Err(error) = deliver_due(&self).await {
                tracing::error!(event = "OutboxReadError", %error);
            }
            tokio::select! {
                () = tokio::time::sleep(BEAT) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    async fn deliver(&self, item: OutboxItem) -> Result<()> {
        let Some(channel) = self.channels.iter().find(|channel| channel.name == item.channel) else {
            let reason = format!("the configuration has no receiver {:?}", item.channel);
            tracing::error!(event = "MessageDead", id = item.id, channel = %item.channel, %reason);
            return self.catalog.dead(item.id, self.clock.now(), &reason).await;
        };
        let ChannelKind::Webhook(webhook) = &channel.kind;
        let attempt = self.post(webhook, &item).await;
        let now = self.clock.now();
        match decide(self.policy, &attempt, item.attempts, item.created_at, now, self.rng.next_u64()) {
            Decision::Delivered => self.catalog.delivered(item.id, now).await,
            Decision::Retry { at, reason } => {
                tracing::warn!(event = "MessageRetry", id = item.id, channel = %item.channel, attempts = item.attempts + 1, %reason);
                self.catalog.failed(item.id, at, &reason).await
            }
            Decision::Dead { reason } => {
                tracing::error!(event = "MessageDead", id = item.id, channel = %item.channel, %reason);
                self.catalog.dead(item.id, now, &reason).await
            }
        }
    }

    async fn post(&self, webhook: &Webhook, item: &OutboxItem) -> Attempt {
        let mut request = self
            .client
            .post(&webhook.url)
            .timeout(Duration::from_millis(webhook.timeout_ms))
            .header("content-type", "application/json")
            // Lets a receiver see that a repeated message is one.
            .header("x-bellrock-dedup-key", &item.dedup_key);
        for (name, value) in &webhook.headers {
            request = request.header(name, value);
        }
        match request.body(item.payload.clone()).send().await {
            Ok(response) => {
                let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
                let retry_after = header.and_then(|header| retry_after(header, self.clock.now()));
                Attempt::Answered { status: response.status().as_u16(), retry_after }
            }
            // Without the URL, which may hold a secret.
            Err(error) => Attempt::NoAnswer { reason: error.without_url().to_string() },
        }
    }
}

/// One round: tries everything that is due. Returns how many items were tried.
pub async fn deliver_due(worker: &DeliveryWorker) -> Result<usize> {
    let due = worker.catalog.due(worker.clock.now(), DUE_AT_ONCE).await?;
    let count = due.len();
    let mut attempts = futures::stream::iter(due.into_iter().map(|item| worker.deliver(item))).buffer_unordered(PARALLEL_MAX);
    while let Some(outcome) = attempts.next().await {
        if let Err(error) = outcome {
            tracing::error!(event = "OutboxWriteError", %error);
        }
    }
    Ok(count)
}
