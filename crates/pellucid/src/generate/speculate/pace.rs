//! How many tokens to propose: as many as pay, from how many were right lately.

/// What a proposed token costs, in calls of the model with one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// To propose it.
    pub draft: f64,
    /// To verify it: one more position in a call.
    pub verify: f64,
}

impl Costs {
    /// For a model with this many parameters, and proposals that cost `draft` each.
    ///
    /// Measured (2 cores, f32, calls of 8 positions against calls of 1): 1.5 times the time where the weights come
    /// from memory (10.7 and 124 million parameters), 2.2 times where they stay in the second-level cache (0.8).
    #[must_use]
    pub fn of(parameters: usize, draft: f64) -> Self {
        let cached = parameters < 2 << 20;
        Self { draft, verify: if cached { 0.18 } else { 0.09 } }
    }
}

/// Numbers of proposals: calls of 2, 4 and 8 positions. The others take hardly less time than the next of these, and
/// each size is planned at its first use.
const SIZES: [usize; 3] = [1, 3, 7];
/// What is left of old experience with each new one.
const MEMORY: f64 = 0.8;
/// Rounds without proposals before another attempt: at first, and at most.
const REST: (u32, u32) = (8, 128);

/// A running guess of the probability that a proposed token is right.
///
/// With probability a for each, k proposals give (1 − a^(k+1)) / (1 − a) tokens on average (Leviathan et al. 2023,
/// equation 1) at a cost of 1 + k (draft + verify). Of 1, 3, 7 and the most allowed, the k with the most tokens for its cost is taken, or 0 if none pays;
/// after a rest, one is tried again.
#[derive(Clone, Debug)]
pub struct Pace {
    costs: Costs,
    right: f64,
    wrong: f64,
    rested: u32,
    rest: u32,
}

impl Pace {
    /// Knows nothing yet: every second token is thought right.
    #[must_use]
    pub fn new(costs: Costs) -> Self {
        Self { costs, right: 1.0, wrong: 1.0, rested: 0, rest: REST.0 }
    }

    /// How many tokens to propose now, at most `most`.
    pub fn tokens(&mut self, most: usize) -> usize {
        let a = (self.right / (self.right + self.wrong)).min(0.98);
        let each = self.costs.draft + self.costs.verify;
        let (mut best, mut gain) = (0, 1.0);
        for k in SIZES.into_iter().filter(|&k| k < most).chain((most > 0).then_some(most)) {
            let tokens = (1.0 - a.powi(k as i32 + 1)) / (1.0 - a);
            let this = tokens / (1.0 + each * k as f64);
            if this > gain {
                (best, gain) = (k, this);
            }
        }
        if best > 0 {
            return best;
        }
        self.rested += 1;
        if self.rested < self.rest {
            return 0;
        }
        self.rested = 0;
        most.min(1)
    }

    /// The first `accepted` of `proposed` tokens were right, the next, if any, was not.
    pub fn learn(&mut self, proposed: usize, accepted: usize) {
        if proposed == 0 {
            return;
        }
        let failed = accepted < proposed;
        self.right = MEMORY * self.right + accepted as f64;
        self.wrong = MEMORY * self.wrong + f64::from(u8::from(failed));
        self.rest = if failed { (2 * self.rest).min(REST.1) } else { REST.0 };
    }
}
