//! Passes of a case, verified and then timed, variant by variant.

use std::collections::btree_map;
use std::time::{Duration, Instant};

use brigade_kernels::{Access, Case, Pass, Random, Tensor, Use};

use crate::convert::to_words;
use crate::program::{BufferId, Command, Program, Run, Slice};
use crate::trial::{Words, elements, run_pass, variants};
use crate::verify::{compare, random_words, reference};
use crate::{DeviceError, Executor, ProgramId, Purpose, Report};

/// How long one submission may take. Naive kernels on software adapters take tens of seconds.
const PATIENCE: Duration = Duration::from_secs(300);

/// One pass of a case with random data, and what it should give.
pub struct Subject {
    case: Case,
    pass: Pass,
    given: Words,
    wanted: Vec<(Tensor, Vec<f64>)>,
}

/// The time of one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between the device's timestamps, where it has them.
    pub device: Option<Duration>,
    /// From submitting to its end, as the host sees it.
    pub wall: Duration,
}

impl Subject {
    /// The passes of a case that `wanted` chooses, on random data.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn passes(
        executor: &dyn Executor,
        case: &Case,
        random: &mut Random,
        wanted: &dyn Fn(Pass) -> bool,
    ) -> Result<Vec<Self>, DeviceError> {
        let mut known = Words::new();
        let mut subjects = Vec::new();
        for pass in Pass::ALL {
            let uses = case.operation.tensors(pass);
            if uses.is_empty() {
                continue;
            }
            for used in uses.iter().filter(|used| used.access.reads()) {
                if let btree_map::Entry::Vacant(place) = known.entry(used.tensor) {
                    place.insert(random_words(case, used.tensor, elements(executor, case, used.tensor)?, random));
                }
            }
            // What a later pass reads of this one has to be right, whether this one is wanted or not.
            let read_later = uses.iter().any(|used| used.access == Access::Write && is_read(case, used.tensor));
            if !wanted(pass) && !read_later {
                continue;
            }
            let result = reference(executor, case, pass, &uses, &known)?;
            let given = uses.iter().filter_map(|used| Some((used.tensor, known.get(&used.tensor)?.clone())));
            let given: Words = given.collect();
            for (tensor, values) in &result {
                if uses.contains(&Use::write(*tensor)) {
                    let mut words = vec![0; values.len()];
                    to_words(values, case.operation.element_type(*tensor), &mut words);
                    known.insert(*tensor, words);
                }
            }
            if wanted(pass) {
                subjects.push(Self { case: case.clone(), pass, given, wanted: result });
            }
        }
        Ok(subjects)
    }

    /// A pass on random data, of which nobody computes what it should give: to be timed only.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn unverified(
        executor: &dyn Executor,
        case: &Case,
        pass: Pass,
        random: &mut Random,
    ) -> Result<Self, DeviceError> {
        let mut given = Words::new();
        for used in case.operation.tensors(pass).iter().filter(|used| used.access.reads()) {
            given.insert(used.tensor, random_words(case, used.tensor, elements(executor, case, used.tensor)?, random));
        }
        Ok(Self { case: case.clone(), pass, given, wanted: Vec::new() })
    }

    /// Which pass.
    pub fn pass(&self) -> Pass {
        self.pass
    }

    /// The variants that the executor can run in this size and that are not excluded.
    pub fn variants(&self, executor: &dyn Executor) -> Vec<&'static str> {
        variants(executor, &self.case, self.pass)
    }

    /// Holds a variant against the reference.
    ///
    /// # Errors
    /// Where the executor fails; wrong numbers are in the reports.
    pub fn verify(&self, executor: &mut dyn Executor, variant: &'static str) -> Result<Vec<Report>, DeviceError> {
        let got = run_pass(executor, &self.case, self.pass, variant, &self.given)?;
        Ok(compare(&self.case, self.pass, variant, &got, &self.wanted))
    }

    /// Makes variants ready to be timed, each several times, all on the same buffers.
    ///
    /// # Errors
    /// Where there is no room.
    pub fn measure(&self, executor: &mut dyn Executor) -> Result<Measured, DeviceError> {
        let mut measured = Measured { case: self.case.clone(), pass: self.pass, tensors: Vec::new() };
        match measured.fill(executor, &self.given) {
            Ok(()) => Ok(measured),
            Err(error) => {
                measured.release(executor);
                Err(error)
            }
        }
    }
}

/// Whether any pass reads a tensor that the forward pass writes.
fn is_read(case: &Case, tensor: Tensor) -> bool {
    let reads = |pass| case.operation.tensors(pass).iter().any(|used| used.tensor == tensor && used.access.reads());
    Pass::ALL.into_iter().any(reads)
}

/// A [`Subject`] with its tensors on the device.
pub struct Measured {
    case: Case,
    pass: Pass,
    tensors: Vec<(Tensor, Slice)>,
}

impl Measured {
    fn fill(&mut self, executor: &mut dyn Executor, given: &Words) -> Result<(), DeviceError> {
        let case = &self.case;
        for used in case.operation.tensors(self.pass) {
            let elements = elements(executor, case, used.tensor)?;
            let buffer: BufferId = executor.allocate(elements, Purpose::Small)?;
            let slice = Slice { buffer, start: 0, elements };
            self.tensors.push((used.tensor, slice));
            if used.tensor == Tensor::Scalars {
                executor.write(slice, &case.scalars.to_bytes())?;
            } else if let Some(words) = given.get(&used.tensor) {
                executor.write(slice, bytemuck::cast_slice(words))?;
            }
        }
        Ok(())
    }

    /// Prepares a submission that runs the pass `times` times.
    ///
    /// # Errors
    /// Where it cannot be compiled.
    pub fn prepare(
        &self,
        executor: &mut dyn Executor,
        variant: &'static str,
        times: usize,
    ) -> Result<ProgramId, DeviceError> {
        let Self { case, pass, .. } = self;
        let (operation, problem) = (case.operation.clone(), case.problem);
        let run = Run { operation, pass: *pass, problem, tensors: self.tensors.clone() };
        let label = format!("{}/{pass} {variant}", case.operation.name());
        let program = Program { label, commands: vec![Command::Run(run); times], ..Program::default() };
        let name = case.operation.name();
        let before = executor.selection_mut().prefer(name, *pass, Some(variant));
        let prepared = executor.prepare(&program, 1);
        executor.selection_mut().prefer(name, *pass, before);
        prepared
    }

    /// Submits what was prepared, and gives the time of one of its `times` passes.
    ///
    /// # Errors
    /// Where the device is lost.
    pub fn time(&self, executor: &mut dyn Executor, program: ProgramId, times: usize) -> Result<Timing, DeviceError> {
        let started = Instant::now();
        let ticket = executor.submit(program, None)?;
        let completion = executor.wait(ticket, PATIENCE)?;
        let each = |whole: Duration| whole / u32::try_from(times).unwrap_or(u32::MAX).max(1);
        Ok(Timing { device: completion.device_time.map(each), wall: each(started.elapsed()) })
    }

    /// Frees the tensors.
    pub fn release(self, executor: &mut dyn Executor) {
        for (_, slice) in self.tensors {
            executor.release(slice.buffer);
        }
    }
}
