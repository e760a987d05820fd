//! The mean of histograms: of their sum while that stays finite, then incremental.

use super::{Added, HistogramSum, MixedSchemas, NativeHistogram};

/// See the module's documentation.
pub(crate) struct HistogramMean {
    /// The sum, or the mean when incremental.
    sum: HistogramSum,
    count: f64,
    incremental: bool,
}

impl HistogramMean {
    pub(crate) fn of_first(histogram: &NativeHistogram) -> HistogramMean {
        HistogramMean { sum: histogram.lifted(), count: 1.0, incremental: false }
    }

    pub(crate) fn add(&mut self, histogram: &NativeHistogram) -> Result<Added, MixedSchemas> {
        self.count += 1.0;
        if !self.incremental {
            let mut sum = self.sum.clone();
            let added = sum.add(histogram)?;
            if !sum.overflows() {
                self.sum = sum;
                return Ok(added);
            }
            self.incremental = true;
            self.sum.scale_sums(1.0 / (self.count - 1.0));
        }
        self.sum.scale_sums((self.count - 1.0) / self.count);
        let mut share = histogram.clone();
        share.divide(self.count);
        self.sum.add(&share)
    }

    pub(crate) fn mean(mut self) -> NativeHistogram {
        if !self.incremental {
            self.sum.each_count(|sum| {
                sum.sum /= self.count;
                sum.compensation /= self.count;
            });
        }
        self.sum.total()
    }
}

impl HistogramSum {
    fn scale_sums(&mut self, factor: f64) {
        self.each_count(|sum| {
            sum.sum *= factor;
            sum.compensation *= factor;
        });
    }
}
