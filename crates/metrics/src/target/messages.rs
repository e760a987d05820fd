//! Reads a page of protocol buffers: every time anew, each series found by its labels.

use std::collections::HashMap;
use std::sync::Arc;

use super::attach::labels_of;
use super::{Known, Place, ScrapeError, Scraped, Target};
use crate::exposition::PAGE_SAMPLES_MAX;
use crate::exposition::protobuf::{self, HistogramForms, Measured, PageExemplar, Value};
use crate::histogram::{EXPONENTIAL_SCHEMAS, NativeHistogram, Schema};
use crate::labels::Labels;
use crate::store::{Store, UNKNOWN_START_MS};
use crate::wire::WireError;

/// Of which of the target's series a sample is, its start and its own time, and its value.
pub(super) type Message = (u32, (i64, Option<i64>), Value);

/// Exemplars, each with which of the target's series it is of.
pub(super) type ExemplarsOfKnown = Vec<(u32, PageExemplar)>;

/// The target's series by the labels on the page.
pub(super) type ByLabels = HashMap<Labels, u32>;

impl From<WireError> for ScrapeError {
    fn from(error: WireError) -> ScrapeError {
        ScrapeError::Protobuf(error.to_string())
    }
}

impl Target {
    /// Reads the whole page before anything is stored.
    pub(super) fn read_messages(
        &mut self,
        store: &mut Store,
        page: &[u8],
        scraped: &mut Scraped,
    ) -> Result<(Vec<Message>, ExemplarsOfKnown), ScrapeError> {
        let forms = HistogramForms {
            native: self.options.native_histograms,
            classic_too: self.options.classic_histograms_too,
        };
        let (mut messages, mut exemplars) = (Vec::new(), Vec::new());
        for message in protobuf::families(page) {
            let message = message?;
            let family = protobuf::family(message)?;
            if let Some(metadata) = store.metadata_entry(family.name) {
                metadata.kind = family.kind().to_owned();
                (metadata.help, metadata.unit) = (family.help.to_owned(), family.unit.to_owned());
            }
            for metric in protobuf::metrics(message) {
                for measured in protobuf::samples(&family, metric?, forms)? {
                    let known = self.known_by_labels(&measured.labels, scraped)?;
                    self.count(known, scraped)?;
                    let Measured { value, timestamp_ms, start_ms, exemplars: of_this, .. } = measured;
                    let start_ms = start_ms.filter(|_| self.options.start_timestamps);
                    let times = (start_ms.unwrap_or(UNKNOWN_START_MS), timestamp_ms);
                    messages.push((known, times, self.within_bucket_limit(value)?));
                    exemplars.extend(of_this.into_iter().map(|exemplar| (known, exemplar)));
                }
            }
        }
        Ok((messages, exemplars))
    }

    fn known_by_labels(&mut self, exposed: &Labels, scraped: &mut Scraped) -> Result<u32, ScrapeError> {
        if let Some(known) = self.by_labels.get(exposed) {
            return Ok(*known);
        }
        let known = self.remember(exposed, scraped)?;
        self.by_labels.insert(exposed.clone(), known);
        Ok(known)
    }

    /// A series that the last page didn't have.
    pub(super) fn remember(&mut self, exposed: &Labels, scraped: &mut Scraped) -> Result<u32, ScrapeError> {
        let labels = labels_of(exposed, &self.labels, &self.options)?;
        let place = if labels.is_some() { Place::Nowhere } else { Place::Dropped };
        scraped.series_added += usize::from(labels.is_some());
        let labels = labels.unwrap_or_default();
        self.known.push(Known { labels, place, last_scrape: 0, twice: false, tracked: false });
        Ok((self.known.len() - 1) as u32)
    }

    /// Counts a sample; an error if the page has too many.
    pub(super) fn count(&self, known: u32, scraped: &mut Scraped) -> Result<(), ScrapeError> {
        scraped.samples += 1;
        let kept = self.known[known as usize].place != Place::Dropped;
        scraped.samples_post_relabeling += usize::from(kept);
        let limit = match self.options.limits.sample_limit {
            0 => PAGE_SAMPLES_MAX,
            limit => limit,
        };
        let over = scraped.samples_post_relabeling > limit || scraped.samples > PAGE_SAMPLES_MAX;
        if over { Err(ScrapeError::SampleLimit(limit)) } else { Ok(()) }
    }

    /// Merges buckets until there are few enough and they are far enough apart.
    fn within_bucket_limit(&self, value: Value) -> Result<Value, ScrapeError> {
        let Value::Histogram(histogram) = &value else { return Ok(value) };
        let limit = self.options.limits.native_histogram_bucket_limit;
        let schema_max = schema_of_factor(self.options.native_histogram_min_bucket_factor);
        let buckets = |histogram: &NativeHistogram| histogram.positive.len() + histogram.negative.len();
        let fits = |histogram: &NativeHistogram| limit == 0 || buckets(histogram) <= limit;
        let fine = matches!(histogram.schema, Schema::Exponential(schema) if i32::from(schema) > schema_max);
        if fits(histogram) && !fine {
            return Ok(value);
        }
        let mut merged = (**histogram).clone();
        merged.reduce_to(schema_max as i8);
        while !fits(&merged) {
            match merged.schema {
                Schema::Exponential(schema) if i32::from(schema) > *EXPONENTIAL_SCHEMAS.start() => {
                    merged.reduce_to(schema - 1);
                }
                _ => return Err(ScrapeError::BucketLimit),
            }
        }
        Ok(Value::Histogram(Arc::new(merged)))
    }
}

/// The finest schema whose buckets grow by at least this factor (Prometheus: `pickSchema`).
fn schema_of_factor(factor: f64) -> i32 {
    let (coarsest, finest) = (*EXPONENTIAL_SCHEMAS.start(), *EXPONENTIAL_SCHEMAS.end());
    if factor <= 1.0 {
        return finest;
    }
    (-factor.log2().log2().floor()).clamp(f64::from(coarsest), f64::from(finest)) as i32
}
