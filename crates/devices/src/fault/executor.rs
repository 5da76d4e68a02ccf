//! The seam of the device: an executor whose calls can fail.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use brigade_kernels::Dispatch;

use super::{Fault, at};
use crate::program::{BufferId, Program, Slice};
use crate::{
    Completion, DeviceError, DeviceInfo, Download, Executor, Identity, Ledger, ProgramId, Purpose, Selection, Ticket,
    Upload,
};

/// Adapters that cannot be opened any more.
static GONE: Mutex<BTreeSet<Identity>> = Mutex::new(BTreeSet::new());

/// Fails where the adapter has gone for good.
pub(crate) fn check_there(info: &DeviceInfo) -> Result<(), DeviceError> {
    if GONE.lock().unwrap_or_else(PoisonError::into_inner).contains(&info.identity) {
        return Err(DeviceError::Open { device: info.name.clone(), reason: "the adapter has gone".into() });
    }
    Ok(())
}

/// An executor with fault points. Each call is a call of four sites: `device`, `device.CALL`, and both with the number of
/// the opened device, from 0, as in `device1.submit`.
pub(crate) struct Faulty {
    inner: Box<dyn Executor>,
    number: usize,
    lost: bool,
}

impl Faulty {
    pub(crate) fn new(inner: Box<dyn Executor>) -> Self {
        static OPENED: AtomicUsize = AtomicUsize::new(0);
        Self { inner, number: OPENED.fetch_add(1, Ordering::Relaxed), lost: false }
    }

    /// What goes wrong at this call besides an error.
    fn meet(&mut self, call: &str) -> Result<Option<Fault>, DeviceError> {
        let number = self.number;
        let sites = [
            "device".to_owned(),
            format!("device.{call}"),
            format!("device{number}"),
            format!("device{number}.{call}"),
        ];
        // Every site counts the call, whatever another one does.
        let faults = sites.map(|site| at(&site));
        self.answer(call)?;
        let Some(fault) = faults.into_iter().flatten().next() else { return Ok(None) };
        match fault {
            Fault::Lost | Fault::Transient => self.lost = true,
            Fault::Gone => {
                GONE.lock().unwrap_or_else(PoisonError::into_inner).insert(self.inner.info().identity.clone());
                self.lost = true;
            }
            Fault::OutOfMemory => {
                let in_use = self.inner.ledger().live_bytes();
                let device = self.inner.info().name.clone();
                return Err(DeviceError::OutOfMemory { device, purpose: call.into(), wanted: 0, in_use });
            }
            other => return Ok(Some(other)),
        }
        self.answer(call).map(|()| None)
    }

    fn answer(&self, call: &str) -> Result<(), DeviceError> {
        if !self.lost {
            return Ok(());
        }
        let reason = format!("a fault planted at {call}");
        Err(DeviceError::Lost { device: self.inner.info().name.clone(), reason })
    }
}

/// Puts what a wrong device gives in the place of what was right.
fn spoil(bytes: &mut [u8], fault: Option<Fault>) {
    let middle = bytes.len() / 8 * 4;
    let Some(word) = bytes[middle..].first_chunk_mut::<4>() else { return };
    match fault {
        Some(Fault::Nan) => *word = f32::NAN.to_le_bytes(),
        // The highest bit of the exponent: far from what was right, whatever it was.
        Some(Fault::Wrong) => word[3] ^= 0x40,
        _ => {}
    }
}

impl Executor for Faulty {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn allocate(&mut self, elements: usize, purpose: Purpose) -> Result<BufferId, DeviceError> {
        self.meet("allocate")?;
        self.inner.allocate(elements, purpose)
    }

    fn release(&mut self, buffer: BufferId) {
        self.inner.release(buffer);
    }

    fn write(&mut self, to: Slice, bytes: &[u8]) -> Result<(), DeviceError> {
        self.meet("write")?;
        self.inner.write(to, bytes)
    }

    fn read(&mut self, from: Slice) -> Result<Vec<u8>, DeviceError> {
        let fault = self.meet("read")?;
        let mut bytes = self.inner.read(from)?;
        spoil(&mut bytes, fault);
        Ok(bytes)
    }

    fn prepare(&mut self, program: &Program, depth: usize) -> Result<ProgramId, DeviceError> {
        self.meet("prepare")?;
        self.inner.prepare(program, depth)
    }

    fn compile(&mut self, dispatches: &[Dispatch]) -> Result<(), DeviceError> {
        self.answer("compile")?;
        self.inner.compile(dispatches)
    }

    fn reserve_uploads(&mut self, bytes: usize) -> Result<(), DeviceError> {
        self.answer("reserve_uploads")?;
        self.inner.reserve_uploads(bytes)
    }

    fn has_room(&mut self, lane: usize) -> Result<bool, DeviceError> {
        self.answer("has_room")?;
        self.inner.has_room(lane)
    }

    fn upload(&mut self, program: ProgramId) -> Result<Upload, DeviceError> {
        self.meet("upload")?;
        self.inner.upload(program)
    }

    fn submit(&mut self, program: ProgramId, upload: Option<Upload>) -> Result<Ticket, DeviceError> {
        self.meet("submit")?;
        self.inner.submit(program, upload)
    }

    fn is_finished(&mut self, ticket: &Ticket) -> Result<bool, DeviceError> {
        self.answer("is_finished")?;
        self.inner.is_finished(ticket)
    }

    fn wait(&mut self, ticket: Ticket, timeout: Duration) -> Result<Completion, DeviceError> {
        let fault = self.meet("wait")?;
        let mut completion = self.inner.wait(ticket, timeout)?;
        if fault.is_some()
            && let Some(download) = completion.download.take()
        {
            let mut bytes = download.to_vec();
            spoil(&mut bytes, fault);
            completion.download = Some(Download::from(bytes));
        }
        Ok(completion)
    }

    fn forget(&mut self, program: ProgramId) {
        self.inner.forget(program);
    }

    fn ledger(&self) -> &Ledger {
        self.inner.ledger()
    }

    fn selection(&self) -> &Selection {
        self.inner.selection()
    }

    fn selection_mut(&mut self) -> &mut Selection {
        self.inner.selection_mut()
    }
}
