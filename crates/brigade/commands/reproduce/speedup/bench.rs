//! The pipelines of one model, which take short turns.

use brigade::{DeviceInfo, Failure, Placement, Trainer, Tuning, built_in};

use super::super::SCHEDULES;
use super::super::runs::samples;
use super::run::{Run, Turn};
use super::times::{Beside, Times};
use super::{Figure, Measured, OfModel, OfStages, Subject};
use crate::commands::bench::median;
use crate::output;

/// One model's pipelines.
pub(super) struct Bench {
    subject: Subject,
    one: Run,
    /// For each number of stages, each stage by itself.
    alone: Vec<Several>,
    /// The first few of these numbers.
    side_by_side: Vec<Several>,
}

/// Several stages, in one pipeline or each in its own.
struct Several {
    stages: usize,
    runs: Vec<Run>,
    /// Steps of one stage's turn beside theirs. They have as many times more of them as they are, and so take about as long.
    steps_of_one: usize,
    turns: Vec<Beside>,
}

impl Bench {
    /// `numbers` of stages, from the fewest on.
    pub(super) fn over(device: &DeviceInfo, subject: Subject, numbers: &[usize]) -> Result<Self, Failure> {
        let Subject { model: name, batch, alone, side_by_side, .. } = subject;
        let model = built_in(name)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let trainer = |stages: usize| {
            let placement = Placement::balanced(&model, &vec![device.name.as_str(); stages])?;
            let trainer = Trainer::new(model.clone(), placement).schedule(SCHEDULES[0], 1).batch(batch);
            Ok::<_, Failure>(trainer.threads(Some(1)).tune(Tuning::Quick))
        };
        let run = |pipeline, steps| Run::new(pipeline, samples(&model, batch), steps);
        let each_alone = |&stages: &usize| {
            let trainer = trainer(stages)?;
            let runs = (0..stages).map(|stage| run(trainer.start_alone(stage)?, alone * stages));
            Ok::<_, Failure>(Several::new(stages, runs.collect::<Result<_, _>>()?, alone))
        };
        let whole = |&stages: &usize| {
            let run = run(trainer(stages)?.start()?, side_by_side * stages)?;
            Ok::<_, Failure>(Several::new(stages, vec![run], side_by_side))
        };
        let measured = numbers.iter().filter(|&&stages| stages <= cores);
        Ok(Self {
            subject,
            one: run(trainer(1)?.start()?, side_by_side)?,
            alone: numbers.iter().map(each_alone).collect::<Result<_, _>>()?,
            side_by_side: measured.map(whole).collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn measure(mut self, rounds: usize) -> Result<OfModel, Failure> {
        for round in 0..rounds {
            output::tell(format_args!("speed-up of {}: round {} of {rounds}", self.subject.model, round + 1));
            (0..self.subject.turns).try_for_each(|_| self.turn())?;
        }
        let several = self.alone.iter().chain(&self.side_by_side);
        let steps = several.flat_map(|several| &several.turns).map(|beside| beside.one.step());
        Ok(OfModel {
            model: self.subject.model,
            batch: self.subject.batch,
            steps: self.subject.steps,
            turns: rounds * self.subject.turns,
            images_per_second: self.subject.batch as f64 / median(steps.collect()),
            stages: self.alone.iter().map(|alone| self.of_stages(alone, rounds)).collect(),
        })
    }

    fn turn(&mut self) -> Result<(), Failure> {
        for _ in 0..self.subject.turns_alone {
            self.alone.iter_mut().try_for_each(|several| several.turn(&mut self.one))?;
        }
        self.side_by_side.iter_mut().try_for_each(|several| several.turn(&mut self.one))
    }

    fn of_stages(&self, alone: &Several, rounds: usize) -> OfStages {
        let side_by_side = self.side_by_side.iter().find(|of| of.stages == alone.stages);
        OfStages {
            stages: alone.stages,
            memory_bytes: alone.turns.last().map_or(0, |beside| beside.turn.memory_bytes()),
            simulated: simulated(alone, self.subject.steps, rounds),
            stage_times: Times::of_devices(&alone.turns).busy().collect(),
            measured: side_by_side.map(|side_by_side| measured(side_by_side, alone, rounds)),
        }
    }
}

impl Several {
    fn new(stages: usize, runs: Vec<Run>, steps_of_one: usize) -> Self {
        Self { stages, runs, steps_of_one, turns: Vec::new() }
    }

    /// A turn of one stage, and then of these.
    fn turn(&mut self, one: &mut Run) -> Result<(), Failure> {
        let one = one.turn(self.steps_of_one)?;
        let steps = self.steps();
        let turns = self.runs.iter_mut().map(|run| run.turn(steps)).collect::<Result<_, _>>()?;
        self.turns.push(Beside { turn: Turn::together(turns), one });
        Ok(())
    }

    /// Of a turn.
    fn steps(&self) -> usize {
        self.steps_of_one * self.stages
    }

    /// The turns of each of `rounds` rounds.
    fn rounds(&self, rounds: usize) -> impl Iterator<Item = &[Beside]> {
        self.turns.chunks(self.turns.len().div_ceil(rounds).max(1))
    }

    /// The median over the turns.
    fn over(&self, figure: impl Fn(&Beside) -> f64) -> f64 {
        over(&self.turns, figure)
    }
}

/// Both of the devices' times, by the simulator.
fn simulated(alone: &Several, steps: usize, rounds: usize) -> Figure {
    let speedup = |times: &Times| steps as f64 / times.run(steps);
    let times = Times::of_devices(&alone.turns);
    let (all, bound) = (speedup(&times), 1.0 / times.slowest());
    let spread = spread(alone.rounds(rounds).map(|round| speedup(&Times::of_devices(round))));
    Figure { speedup: all, bound, efficiency: all / bound, spread }
}

/// Both of wall time.
fn measured(several: &Several, alone: &Several, rounds: usize) -> Measured {
    let figure = Figure {
        speedup: several.over(Beside::speedup),
        bound: several.over(Beside::bound),
        efficiency: several.over(|beside| beside.speedup() / beside.bound()),
        spread: spread(several.rounds(rounds).map(|round| over(round, Beside::speedup))),
    };
    let replayed = |beside: &Beside| Times::of_wall([beside]).run(beside.turn.steps);
    let missed = |predicted: f64, took: f64| (predicted - took).abs() / took;
    let of_rounds: Vec<&[Beside]> = several.rounds(rounds).collect();
    let foreseen =
        |pair: &[&[Beside]]| missed(Times::of_wall(pair[0]).run(several.steps()), over(pair[1], Beside::took));
    let next: Vec<f64> = of_rounds.windows(2).map(foreseen).collect();
    let from_alone = Times::of_wall(&alone.turns).run(several.steps());
    Measured {
        figure,
        seconds: several.over(|beside| beside.turn.seconds),
        predicted_seconds: several.over(|beside| replayed(beside) * beside.one.step()),
        prediction_error: several.over(|beside| missed(replayed(beside), beside.took())),
        prediction_error_of_next_round: (!next.is_empty()).then(|| median(next)),
        prediction_error_from_stages_alone: missed(from_alone, several.over(Beside::took)),
    }
}

fn over(turns: &[Beside], figure: impl Fn(&Beside) -> f64) -> f64 {
    median(turns.iter().map(figure).collect())
}

/// Least and most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values.fold([f64::INFINITY, 0.0], |[least, most], value| [least.min(value), most.max(value)])
}
