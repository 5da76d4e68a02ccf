//! The corrections of staleness, and which of them go together.

use std::fmt;

use super::{StalenessError, WeightPolicy};

/// One correction, as it is written: `name` or `name=number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    /// PipeMare's technique 1: a smaller rate at stale stages, which grows to the full one over so many steps.
    RatePerStage(usize),
    /// PipeMare's technique 2: the backward's weights are set back to where the forward's were.
    Discrepancy,
    /// A late gradient adds at once what it would have added by now (Kosson et al. 2021).
    SpikeCompensation,
    /// The forward's weights are predicted.
    Prediction(Prediction),
    /// An update every so many steps.
    Accumulation(usize),
    /// So many epochs at the end under `1f1b`.
    SynchronousFinish(usize),
}

/// Where the weights that are read are expected to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// ŵ = w − s·η·v (Kosson et al. 2021).
    Linear,
    /// ŵ = w − η·v·γ(1 − γ^s)/(1 − γ): what the momentum alone does in s updates.
    Momentum,
    /// ŵ = w − η·γ·v, and gradients enter v with 1 − γ: Nesterov's look-ahead (Ajanthan et al. 2025).
    LookAhead,
}

/// Steps over which `rate-per-stage` grows to the full rate where no number is given.
const ANNEALING_STEPS: usize = 1000;

impl Correction {
    /// Every correction, with the numbers that are taken where none is given.
    pub const ALL: [Self; 8] = [
        Self::RatePerStage(ANNEALING_STEPS),
        Self::Discrepancy,
        Self::SpikeCompensation,
        Self::Prediction(Prediction::Linear),
        Self::Prediction(Prediction::Momentum),
        Self::Prediction(Prediction::LookAhead),
        Self::Accumulation(4),
        Self::SynchronousFinish(1),
    ];

    /// The name on the command line, without the number.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RatePerStage(_) => "rate-per-stage",
            Self::Discrepancy => "discrepancy",
            Self::SpikeCompensation => "spike-compensation",
            Self::Prediction(Prediction::Linear) => "linear-prediction",
            Self::Prediction(Prediction::Momentum) => "momentum-prediction",
            Self::Prediction(Prediction::LookAhead) => "look-ahead",
            Self::Accumulation(_) => "accumulation",
            Self::SynchronousFinish(_) => "synchronous-finish",
        }
    }

    /// Reads `name` or `name=number`.
    fn parse(word: &str) -> Result<Self, StalenessError> {
        let (name, number) = word.split_once('=').map_or((word, None), |(name, number)| (name, Some(number)));
        let known = || format!("none, {}", Self::ALL.map(Self::name).join(", "));
        let unknown = || StalenessError::Unknown { what: "correction", word: word.to_owned(), known: known() };
        let found = Self::ALL.into_iter().find(|correction| correction.name() == name).ok_or_else(unknown)?;
        number.map_or(Ok(found), |number| found.with_number(word, number))
    }

    fn with_number(self, word: &str, number: &str) -> Result<Self, StalenessError> {
        let wrong = |wanted: &str| StalenessError::Number { word: word.to_owned(), wanted: wanted.to_owned() };
        let parsed = number.parse().ok().filter(|&number: &usize| number > 0);
        let count = parsed.ok_or_else(|| wrong("the number must be a whole one from 1 on"));
        match self {
            Self::RatePerStage(_) => Ok(Self::RatePerStage(count?)),
            Self::Accumulation(_) => Ok(Self::Accumulation(count?)),
            Self::SynchronousFinish(_) => Ok(Self::SynchronousFinish(count?)),
            _ => Err(wrong("this correction takes no number")),
        }
    }
}

impl fmt::Display for Correction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatePerStage(number) | Self::Accumulation(number) | Self::SynchronousFinish(number) => {
                write!(f, "{}={number}", self.name())
            }
            _ => f.write_str(self.name()),
        }
    }
}

/// The corrections of a run; each at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Corrections {
    /// Steps over which stale stages grow to the full rate.
    pub rate_per_stage: Option<usize>,
    /// Whether the backward's weights are set back.
    pub discrepancy: bool,
    /// Whether late gradients are compensated for.
    pub spike_compensation: bool,
    /// What predicts weights.
    pub prediction: Option<Prediction>,
    /// Steps of an update.
    pub accumulation: Option<usize>,
    /// Epochs at the end that flush.
    pub synchronous_finish: Option<usize>,
}

impl Corrections {
    /// Reads a list of corrections; `none` stands for an empty one.
    ///
    /// # Errors
    /// Names a word that is unknown, has a wrong number, or stands there twice; and two predictions.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, StalenessError> {
        let mut corrections = Self::default();
        for word in words.into_iter().map(str::trim).filter(|&word| word != "none") {
            corrections.add(Correction::parse(word)?)?;
        }
        Ok(corrections)
    }

    fn add(&mut self, correction: Correction) -> Result<(), StalenessError> {
        if let Some(earlier) = self.list().into_iter().find(|earlier| earlier.excludes(correction)) {
            let why = "one of the kind is enough";
            return Err(StalenessError::Combination {
                first: earlier.to_string(),
                second: correction.to_string(),
                why,
            });
        }
        match correction {
            Correction::RatePerStage(steps) => self.rate_per_stage = Some(steps),
            Correction::Discrepancy => self.discrepancy = true,
            Correction::SpikeCompensation => self.spike_compensation = true,
            Correction::Prediction(prediction) => self.prediction = Some(prediction),
            Correction::Accumulation(steps) => self.accumulation = Some(steps),
            Correction::SynchronousFinish(epochs) => self.synchronous_finish = Some(epochs),
        }
        Ok(())
    }

    /// Those that are on.
    pub fn list(&self) -> Vec<Correction> {
        let all = [
            self.rate_per_stage.map(Correction::RatePerStage),
            self.discrepancy.then_some(Correction::Discrepancy),
            self.spike_compensation.then_some(Correction::SpikeCompensation),
            self.prediction.map(Correction::Prediction),
            self.accumulation.map(Correction::Accumulation),
            self.synchronous_finish.map(Correction::SynchronousFinish),
        ];
        all.into_iter().flatten().collect()
    }

    /// Whether any of these corrects stale gradients, or the weights that they are taken at, for as long as weights are
    /// stale. The others change when updates come and how long they are; and without `momentum` what goes by it does nothing.
    pub fn correct_gradients(&self, momentum: f64) -> bool {
        let by_momentum = self.spike_compensation || self.prediction.is_some();
        self.discrepancy || self.prediction == Some(Prediction::Linear) || by_momentum && momentum > 0.0
    }

    /// Whether these go together, with `weights` and with an optimiser that is Nesterov's or not.
    ///
    /// # Errors
    /// Names two that do not, and why.
    pub fn check(&self, weights: WeightPolicy, nesterov: bool) -> Result<(), StalenessError> {
        let looks_ahead = self.prediction == Some(Prediction::LookAhead);
        let rules = [
            (
                self.discrepancy && self.prediction.is_some(),
                "discrepancy",
                "a prediction",
                "it sets the backward's weights back to those of an unpredicted forward",
            ),
            (
                self.discrepancy && weights != WeightPolicy::Single,
                "discrepancy",
                "older versions of the weights",
                "with them the backward reads the forward's very weights",
            ),
            (
                self.spike_compensation && nesterov,
                "spike-compensation",
                "nesterov",
                "Nesterov's step is spike compensation by one update",
            ),
            (looks_ahead && nesterov, "look-ahead", "nesterov", "both are Nesterov's step"),
            (
                looks_ahead && self.spike_compensation,
                "look-ahead",
                "spike-compensation",
                "one holds gradients back that the other brings forward",
            ),
        ];
        match rules.into_iter().find(|(breaks, ..)| *breaks) {
            Some((_, first, second, why)) => {
                Err(StalenessError::Combination { first: first.into(), second: second.into(), why })
            }
            None => Ok(()),
        }
    }
}

impl Correction {
    /// Whether `other` is of the same kind.
    fn excludes(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}
