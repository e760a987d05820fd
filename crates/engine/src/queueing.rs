//! How many servers a load needs so that few requests wait too long: Erlang's formula, corrected for the variation of
//! arrivals and of service times (Allen-Cunneen, Kingman).
//!
//! With `k` servers and an offered load of `a` servers' work, an arrival waits with probability `C(k, a)`, and longer than
//! `w` with probability `C(k, a) · exp(-(k - a)·w / (s·v))`, where `s` is the mean service time and `v` half the sum of
//! the squared coefficients of variation of arrivals and services. It holds for one queue before all servers; queues of
//! their own need more (`margin` of the caller).

/// A load, and how long its requests may wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Queue {
    /// Work that arrives in a second, in seconds of one server's time: rate times mean service time.
    pub offered: f64,
    /// A wait longer than this counts as too long, in mean service times.
    pub wait_max: f64,
    /// The share of requests that may wait too long (0–1).
    pub risk: f64,
    /// Half the sum of the squared coefficients of variation of the times between arrivals and of service times; 1 for
    /// Poisson arrivals and exponential services.
    pub variation: f64,
}

/// Above so many servers the recursion is not worth its time: half-width staffing is exact enough.
const RECURSION_MAX: f64 = 5000.0;

impl Queue {
    /// The fewest servers with which no more than the risk wait too long. Zero for no load; at most `i32::MAX`.
    pub fn servers(&self) -> u32 {
        let offered = self.offered;
        // NaN and what is not above zero are no load.
        if offered.is_nan() || offered <= 0.0 {
            return 0;
        }
        if offered > RECURSION_MAX {
            return crate::recommend::ceil(offered + 2.5 * offered.sqrt());
        }
        let mut blocked = 1.0;
        let mut servers = 0_u32;
        // Blocking falls with each server, so the first that is enough is the fewest.
        loop {
            servers += 1;
            let count = f64::from(servers);
            blocked = offered * blocked / (count + offered * blocked);
            if count > offered && self.late(count, blocked) <= self.risk {
                return servers;
            }
            if count > offered + 12.0 * offered.sqrt() + 12.0 {
                return servers; // further servers change nothing that can be measured
            }
        }
    }

    /// The share of requests that wait too long with so many servers; 1 where they can't keep up.
    pub fn share_late(&self, servers: u32) -> f64 {
        let offered = self.offered;
        if offered.is_nan() || offered <= 0.0 {
            return 0.0;
        }
        if f64::from(servers) <= offered {
            return 1.0;
        }
        if offered > RECURSION_MAX {
            let beta = (f64::from(servers) - offered) / offered.sqrt();
            let waits = 1.0 / (1.0 + beta * normal_share(beta) / normal_density(beta));
            return waits * self.tail(f64::from(servers));
        }
        let blocked = (1..=servers)
            .fold(1.0, |blocked, server| offered * blocked / (f64::from(server) + offered * blocked));
        self.late(f64::from(servers), blocked)
    }

    fn late(&self, servers: f64, blocked: f64) -> f64 {
        let waits = blocked / (1.0 - self.offered / servers * (1.0 - blocked));
        waits * self.tail(servers)
    }

    fn tail(&self, servers: f64) -> f64 {
        (-(servers - self.offered) * self.wait_max / self.variation.max(0.01)).exp()
    }
}

fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// The share of a normal distribution below `x`, for `x` of zero or more (Zelen and Severo, error below 1e-5).
fn normal_share(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.33267 * x);
    1.0 - normal_density(x) * t * (0.436_183_6 + t * (-0.120_167_6 + t * 0.937_298))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Safe utilisation at 1 % late, a central queue and a service CV² of 0.21, as computed by simulation.
    #[test]
    fn fewest_servers_agree_with_simulated_ones() {
        for (utilisation, servers, objective) in [
            (0.46, 1, 4.7),
            (0.71, 2, 4.7),
            (0.85, 4, 4.7),
            (0.92, 8, 4.7),
            (0.97, 20, 4.7),
            (0.75, 1, 10.0),
            (0.87, 2, 10.0),
            (0.94, 4, 10.0),
            (0.97, 8, 10.0),
        ] {
            let queue = Queue {
                offered: utilisation * f64::from(servers),
                wait_max: objective - 1.6,
                risk: 0.01,
                variation: 0.605,
            };
            let needed = queue.servers();
            assert!(needed.abs_diff(servers) <= 1, "{servers} servers at {utilisation}: {needed}");
        }
    }

    #[test]
    fn odd_loads_need_no_odd_numbers() {
        let of = |offered| Queue { offered, wait_max: 3.0, risk: 0.01, variation: 1.0 }.servers();
        for (offered, servers) in
            [(f64::NAN, 0), (-1.0, 0), (0.0, 0), (f64::INFINITY, 2_147_483_647), (1e9, 1_000_079_057)]
        {
            assert_eq!(of(offered), servers, "{offered}");
        }
    }
}
