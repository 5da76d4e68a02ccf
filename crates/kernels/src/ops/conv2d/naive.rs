//! The yardstick: one invocation for each element.

use super::Conv2dParams;
use super::plan::{Planner, RESULT, SOURCE};
use crate::ops::slots::slot;
use crate::{Access, Pass, PlanError, Tensor};

impl Planner<'_> {
    pub(super) fn forward_naive(&mut self) -> Result<(), PlanError> {
        for rows in self.rows(0)? {
            for samples in self.samples(0)? {
                let x = self.x(SOURCE, Tensor::X, Access::Read, &samples);
                let y = self.y(RESULT, Tensor::Y, Access::Write, &samples);
                let (w, b) = (self.w(Tensor::W, Access::Read, &rows), self.bias(&rows));
                let params = Conv2dParams {
                    samples: samples.len() as u32,
                    source_skip: x.skip,
                    result_skip: y.skip,
                    w_skip: w.skip,
                    b_skip: b.skip,
                    ..self.geometry(&rows)
                };
                let groups = self.flat(samples.len() * rows.len() * self.sides.p * self.sides.q)?;
                let bindings = vec![x.binding, w.binding, b.binding, y.binding];
                self.push_storing((Pass::Forward, "forward_naive"), &params, bindings, groups);
            }
        }
        Ok(())
    }

    pub(super) fn backward_input_naive(&mut self) -> Result<(), PlanError> {
        for rows in self.rows(0)? {
            for samples in self.samples(0)? {
                let access = if rows.start == 0 { Access::Write } else { Access::ReadWrite };
                let dy = self.y(slot(Tensor::Dy), Tensor::Dy, Access::Read, &samples);
                let dx = self.x(RESULT, Tensor::Dx, access, &samples);
                let w = self.w(Tensor::W, Access::Read, &rows);
                let params = Conv2dParams {
                    samples: samples.len() as u32,
                    source_skip: dx.skip,
                    result_skip: dy.skip,
                    w_skip: w.skip,
                    accumulate: u32::from(rows.start > 0),
                    ..self.geometry(&rows)
                };
                let groups = self.flat(samples.len() * self.sides.x())?;
                let bindings = vec![dy.binding, w.binding, dx.binding];
                self.push_storing((Pass::BackwardInput, "backward_input_naive"), &params, bindings, groups);
            }
        }
        Ok(())
    }

    pub(super) fn backward_weight_naive(&mut self) -> Result<(), PlanError> {
        for rows in self.rows(0)? {
            for samples in self.samples(0)? {
                let x = self.x(SOURCE, Tensor::X, Access::Read, &samples);
                let dy = self.y(slot(Tensor::Dy), Tensor::Dy, Access::Read, &samples);
                let dw = self.w(Tensor::Dw, Access::ReadWrite, &rows);
                let params = Conv2dParams {
                    samples: samples.len() as u32,
                    source_skip: x.skip,
                    result_skip: dy.skip,
                    w_skip: dw.skip,
                    ..self.geometry(&rows)
                };
                let groups = self.flat(rows.len() * self.sides.filter())?;
                self.push("backward_weight_naive", &params, vec![x.binding, dy.binding, dw.binding], groups);
                self.backward_bias(&rows, &samples)?;
            }
        }
        Ok(())
    }
}
