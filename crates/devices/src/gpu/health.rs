//! What wgpu's callbacks say, from whichever thread they come.

use std::sync::OnceLock;

use crate::DeviceError;

/// The first loss and the first uncaptured error of a device.
#[derive(Debug, Default)]
pub(super) struct Health {
    lost: OnceLock<String>,
    error: OnceLock<DeviceError>,
}

impl Health {
    /// Notes that the device has gone; the first reason stays.
    pub(super) fn lose(&self, reason: String) {
        let _ = self.lost.set(reason);
    }

    /// Notes an error that no scope has caught; the first stays.
    pub(super) fn fail(&self, error: DeviceError) {
        tracing::error!("{error}");
        let _ = self.error.set(error);
    }

    /// Fails where the device has gone or something went wrong.
    pub(super) fn check(&self, device: &str) -> Result<(), DeviceError> {
        if let Some(reason) = self.lost.get() {
            return Err(DeviceError::Lost { device: device.to_owned(), reason: reason.clone() });
        }
        self.error.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use std::time::{Duration, Instant};

    use crate::door::alone;
    use crate::gpu::{Gpu, GpuExecutor};
    use crate::open::connect;
    use crate::{DeviceError, Executor, OpenOptions, Program, Purpose, Slice};

    fn executor(name: &str) -> (wgpu::Device, GpuExecutor) {
        let list = crate::list();
        let info = crate::find(&list, name).expect("run scripts/setup test");
        let options = OpenOptions::default();
        let (info, device, queue) = alone(Some(1), || connect(info, &options)).unwrap();
        let gpu = Gpu::new(info, device.clone(), queue, &options);
        (device, GpuExecutor::new(gpu, &options).unwrap())
    }

    #[test]
    fn device_loss_ends_everything_with_its_name() {
        for name in ["llvmpipe", "swiftshader"] {
            let (device, mut executor) = executor(name);
            let buffer = executor.allocate(1 << 20, Purpose::Activations).unwrap();
            let whole = Slice { buffer, start: 0, elements: 1 << 20 };
            let program = Program { uploads: vec![whole], downloads: vec![whole], ..Program::default() };
            let id = executor.prepare(&program, 2).unwrap();
            let upload = executor.upload(id).unwrap();
            let ticket = executor.submit(id, Some(upload)).unwrap();
            let held = executor.upload(id).unwrap();
            device.destroy();
            let started = Instant::now();
            // What was in flight may still arrive.
            match executor.wait(ticket, Duration::from_secs(20)) {
                Ok(_) | Err(DeviceError::Lost { .. }) => {}
                Err(other) => panic!("{other}"),
            }
            let lost = [
                executor.submit(id, Some(held)).err(),
                executor.upload(id).err(),
                executor.read(whole).err(),
                executor.write(whole, &[0; 4 << 20]).err(),
                executor.allocate(4, Purpose::Small).err(),
                executor.prepare(&program, 1).err(),
            ];
            for error in lost {
                assert!(matches!(error, Some(DeviceError::Lost { .. })), "{name}: {error:?}");
            }
            assert!(started.elapsed() < Duration::from_secs(5));
        }
    }

    #[test]
    fn device_panics_inside_wgpu_are_losses() {
        let (_, executor) = executor("llvmpipe");
        let error = executor.gpu.guarded(|| std::panic::resume_unwind(Box::new("planted"))).unwrap_err();
        assert!(error.to_string().contains("planted"), "{error}");
        assert!(matches!(executor.gpu.check(), Err(DeviceError::Lost { .. })));
    }
}
