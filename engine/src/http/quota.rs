use super::problem::Problem;
use crate::compute::lock;
use axum::http::StatusCode;
use foreglow_core::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Seconds over which a tenant's rate is averaged.
const WINDOW: f64 = 10.0;

/// A token bucket a tenant: it fills with `rate` samples a second and holds 10 seconds of them.
#[derive(Debug)]
pub(crate) struct Quota {
    rate: Option<f64>,
    buckets: Mutex<HashMap<Arc<str>, (f64, Timestamp)>>,
}

impl Quota {
    pub(crate) fn new(rate: Option<f64>) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Takes `samples` from the tenant's bucket.
    ///
    /// # Errors
    /// 429 with the seconds until they would fit. A batch larger than the bucket passes when the bucket is full.
    pub(crate) fn take(&self, tenant: &Arc<str>, samples: usize, now: Timestamp) -> Result<(), Problem> {
        let Some(rate) = self.rate else { return Ok(()) };
        let size = rate * WINDOW;
        let mut buckets = lock(&self.buckets);
        let (level, last) = buckets.entry(tenant.clone()).or_insert((size, now));
        let passed = (now.ms() - last.ms()).max(0) as f64 / 1000.0;
        *level = (*level + rate * passed).min(size);
        *last = now;
        let need = samples as f64;
        if *level >= need.min(size) {
            *level -= need;
            return Ok(());
        }
        let wait = ((need.min(size) - *level) / rate).ceil().clamp(1.0, 3600.0) as u32;
        let detail = format!("tenant {tenant} may send {rate} samples a second: wait {wait} s");
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "quota", detail).retry_after(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_with_time() {
        let q = Quota::new(Some(10.0));
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let t = Timestamp(1_767_225_600_000);
        q.take(&a, 100, t).unwrap();
        assert_eq!(q.take(&a, 10, t).unwrap_err().code(), "quota");
        q.take(&b, 1000, t).unwrap();
        q.take(&a, 10, t.plus(1000)).unwrap();
        Quota::new(None).take(&a, usize::MAX, t).unwrap();
    }
}
