//! What one replica is: how long a request takes, how many at once, how long it starts, how many may wait.

use std::time::Duration;

use thiserror::Error;

use crate::random::Random;
use crate::text::duration;

/// More requests at once in one replica than any server has.
pub const CONCURRENCY_MAX: u32 = 10_000;

/// One replica of a model server.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// How long one request takes when nothing else runs.
    pub service: Service,
    /// Requests that run at once; each at the same speed.
    pub concurrency: u32,
    /// From its creation until it is ready.
    pub startup: Duration,
    /// Requests that may wait for each replica; more are refused. None means any number.
    pub queue_limit: Option<u32>,
    /// Who gets the next request.
    pub router: Router,
}

/// A distribution of service times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Service {
    /// Always the same.
    Fixed(Duration),
    /// Exponential.
    Exponential(Duration),
    /// Lognormal, with this mean and coefficient of variation.
    Lognormal {
        /// The mean.
        mean: Duration,
        /// Deviation over mean.
        cv: f64,
    },
}

/// Who gets the next request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Router {
    /// One queue before all replicas: whoever is free first.
    #[default]
    Central,
    /// The ready replica with the fewest requests, waiting ones included; they wait there.
    LeastLoaded,
    /// One after the other; requests wait there.
    RoundRobin,
}

/// Why a profile can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("profile: {0}")]
pub struct ProfileError(String);

impl Default for Profile {
    /// ResNet34 on one CPU, as Faro measured it (mean 154 ms, squared variation 0.046), 35 s to start.
    fn default() -> Self {
        Self {
            service: Service::Lognormal { mean: Duration::from_millis(154), cv: 0.2145 },
            concurrency: 1,
            startup: Duration::from_secs(35),
            queue_limit: None,
            router: Router::Central,
        }
    }
}

impl Profile {
    /// `service=154ms,cv=0.21,concurrency=1,startup=35s,queue=50,router=central`; what is not said is as by default.
    /// Without `cv` a service time is exponential, with 0 it is always the same. Entries may also stand on lines of
    /// their own, with `#` before remarks.
    ///
    /// # Errors
    ///
    /// An unknown key, or a value out of its range; both are named.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let mut profile = Self::default();
        let (mut mean, mut cv) = (None, None);
        let entries = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default())
            .flat_map(|line| line.split(','));
        for entry in entries.map(str::trim).filter(|entry| !entry.is_empty()) {
            let wrong = || {
                ProfileError(format!(
                    "`{entry}` is no KEY=VALUE; keys are service, cv, concurrency, startup, queue, router"
                ))
            };
            let (key, value) = entry.split_once(['=', ':']).ok_or_else(wrong)?;
            let (key, value) = (key.trim(), value.trim());
            let of = |why: String| ProfileError(format!("{key}: {why}"));
            match key {
                "service" => mean = Some(duration(value).map_err(of)?),
                "cv" => cv = Some(number(value, 0.0, 10.0).map_err(of)?),
                "concurrency" => profile.concurrency = whole(value, 1, CONCURRENCY_MAX).map_err(of)?,
                "startup" => profile.startup = duration(value).map_err(of)?,
                "queue" => profile.queue_limit = Some(whole(value, 0, u32::MAX).map_err(of)?),
                "router" => profile.router = router(value).map_err(of)?,
                _ => return Err(wrong()),
            }
        }
        profile.service = service(mean, cv, profile.service);
        if profile.service.mean().is_zero() || profile.service.mean() > Duration::from_secs(3600) {
            return Err(ProfileError("service: it must be above zero and at most an hour".to_owned()));
        }
        Ok(profile)
    }
}

fn service(mean: Option<Duration>, cv: Option<f64>, default: Service) -> Service {
    match (mean, cv) {
        (None, None) => default,
        (Some(mean), None) => Service::Exponential(mean),
        (mean, Some(cv)) => {
            let mean = mean.unwrap_or(default.mean());
            if cv == 0.0 { Service::Fixed(mean) } else { Service::Lognormal { mean, cv } }
        }
    }
}

fn number(text: &str, min: f64, max: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("`{text}` is no number between {min} and {max}"))
}

fn whole(text: &str, min: u32, max: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("`{text}` is no whole number between {min} and {max}"))
}

fn router(text: &str) -> Result<Router, String> {
    match text {
        "central" => Ok(Router::Central),
        "least-loaded" => Ok(Router::LeastLoaded),
        "round-robin" => Ok(Router::RoundRobin),
        _ => Err(format!("`{text}` is none of central, least-loaded, round-robin")),
    }
}

impl Service {
    /// The mean.
    pub fn mean(self) -> Duration {
        match self {
            Self::Fixed(mean) | Self::Exponential(mean) | Self::Lognormal { mean, .. } => mean,
        }
    }

    /// The squared coefficient of variation.
    pub fn variation(self) -> f64 {
        match self {
            Self::Fixed(_) => 0.0,
            Self::Exponential(_) => 1.0,
            Self::Lognormal { cv, .. } => cv * cv,
        }
    }

    /// Draws from it by table, so that a request costs a few nanoseconds whatever the distribution.
    pub(crate) fn sampler(self) -> Sampler {
        const DRAWS: usize = 1 << 16;
        let mean = self.mean().as_secs_f64();
        let mut random = Random::new(0x0073_6572_7669_6365);
        let mut table: Vec<f64> = match self {
            Self::Fixed(_) => vec![mean; SIZE],
            Self::Exponential(_) => {
                (0..SIZE).map(|i| -mean * (1.0 - (i as f64 + 0.5) / SIZE as f64).ln()).collect()
            }
            Self::Lognormal { cv, .. } => {
                let sigma = (1.0 + cv * cv).ln().sqrt();
                let mut draws: Vec<f64> = (0..DRAWS).map(|_| (sigma * random.normal()).exp()).collect();
                draws.sort_by(f64::total_cmp);
                draws
                    .chunks(DRAWS / SIZE)
                    .map(|chunk| chunk.iter().sum::<f64>() / chunk.len() as f64)
                    .collect()
            }
        };
        let scale = mean * table.len() as f64 / table.iter().sum::<f64>();
        table.iter_mut().for_each(|value| *value *= scale);
        Sampler { table }
    }
}

/// Entries of the table of a distribution: its tail ends at 1 - 1/8192.
const SIZE: usize = 4096;

/// A distribution as a table of its quantiles.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    table: Vec<f64>,
}

impl Sampler {
    /// Seconds.
    pub(crate) fn draw(&self, random: &mut Random) -> f64 {
        let index = (random.next() >> 52) as usize;
        self.table[index & (SIZE - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read() {
        let profile =
            Profile::parse("service=20ms,cv=0.5,concurrency=4,startup=10s,queue=50,router=round-robin");
        let profile = profile.expect("a profile");
        assert_eq!(profile.service, Service::Lognormal { mean: Duration::from_millis(20), cv: 0.5 });
        assert_eq!(
            (profile.concurrency, profile.queue_limit, profile.router),
            (4, Some(50), Router::RoundRobin)
        );
        assert_eq!(Profile::parse("# nothing\n"), Ok(Profile::default()));
        for (text, why) in [
            ("speed=1", "`speed=1` is no KEY=VALUE"),
            ("service=0s", "above zero"),
            ("concurrency=0", "concurrency: `0` is no whole number between 1 and 10000"),
            ("startup=soon", "startup: `soon` is no duration"),
            ("cv=-1", "cv: `-1` is no number"),
            ("router=any", "none of central"),
        ] {
            let error = Profile::parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn draws_have_the_mean_and_the_variation() {
        let mean = Duration::from_millis(100);
        for service in
            [Service::Fixed(mean), Service::Exponential(mean), Service::Lognormal { mean, cv: 0.2145 }]
        {
            let (sampler, mut random) = (service.sampler(), Random::new(1));
            let draws: Vec<f64> = (0..200_000).map(|_| sampler.draw(&mut random)).collect();
            let average = draws.iter().sum::<f64>() / draws.len() as f64;
            let square = draws.iter().map(|d| (d / average - 1.0).powi(2)).sum::<f64>() / draws.len() as f64;
            assert!((average - 0.1).abs() < 0.001, "{service:?}: {average}");
            assert!((square - service.variation()).abs() < 0.02, "{service:?}: {square}");
        }
    }
}
