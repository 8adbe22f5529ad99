//! What the NVIDIA driver says of this machine's GPU, asked without linking it.
//!
//! The driver's library is opened by name at run time, in every build: a machine without one is
//! an answer, not an error. Names and signatures are those of the CUDA driver API, whose functions
//! return a code, 0 for success.
//!
//! Not here: opening a device for tensors, and what an answer means for a run ([`super::device`]).

#![expect(unsafe_code, reason = "functions of a C library, found by name at run time")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::mem::transmute_copy;
use std::ptr::NonNull;

/// The oldest driver that runs this program's kernels, as CUDA counts: 12.0.
const MIN_DRIVER: i32 = 12000;
/// The oldest compute capability they are compiled for (Turing).
const MIN_CAPABILITY: (i32, i32) = (7, 5);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// No GPU, and how that shows.
    Absent(&'static str),
    /// A GPU that should work.
    Found(Gpu),
    /// A GPU that cannot be used, and why.
    Unusable(String),
}

/// The first GPU that the driver offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// The model.
    pub name: String,
    /// Its memory.
    pub total_bytes: u64,
    /// The newest CUDA that the driver knows, 12080 for 12.8.
    pub driver: i32,
    /// Major and minor number of its generation.
    pub capability: (i32, i32),
    /// How many GPUs there are.
    pub num_devices: i32,
}

/// Asks the driver, if there is one.
pub fn probe() -> Probe {
    match Driver::open().and_then(|driver| driver.first_gpu()) {
        Ok(gpu) => Probe::Found(gpu),
        Err(other) => other,
    }
}

/// Bytes that are free on the GPU that this thread uses; `None` if it uses none.
pub(super) fn free_bytes() -> Option<u64> {
    let driver = Driver::open().ok()?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: both arguments point to integers of the right size, which live.
    let code = unsafe { (driver.mem_get_info)(&raw mut free, &raw mut total) };
    (code == 0).then_some(free as u64)
}

/// A result of the driver API.
type Code = c_int;

/// The functions that are asked for, of a library that stays loaded.
struct Driver {
    init: unsafe extern "C" fn(c_uint) -> Code,
    version: unsafe extern "C" fn(*mut c_int) -> Code,
    count: unsafe extern "C" fn(*mut c_int) -> Code,
    get: unsafe extern "C" fn(*mut c_int, c_int) -> Code,
    name: unsafe extern "C" fn(*mut c_char, c_int, c_int) -> Code,
    total_mem: unsafe extern "C" fn(*mut usize, c_int) -> Code,
    attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> Code,
    mem_get_info: unsafe extern "C" fn(*mut usize, *mut usize) -> Code,
}

impl Driver {
    /// The driver's library.
    fn open() -> Result<Self, Probe> {
        // SAFETY: the name ends with a zero; the library is the system's, and never closed.
        let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW) };
        let Some(library) = NonNull::new(library) else {
            return Err(not_loaded(&last_dl_error()));
        };
        // SAFETY: the types of the fields are the signatures in cuda.h.
        let driver = unsafe {
            (|| {
                Some(Self {
                    init: symbol(library, c"cuInit")?,
                    version: symbol(library, c"cuDriverGetVersion")?,
                    count: symbol(library, c"cuDeviceGetCount")?,
                    get: symbol(library, c"cuDeviceGet")?,
                    name: symbol(library, c"cuDeviceGetName")?,
                    total_mem: symbol(library, c"cuDeviceTotalMem_v2")?,
                    attribute: symbol(library, c"cuDeviceGetAttribute")?,
                    mem_get_info: symbol(library, c"cuMemGetInfo_v2")?,
                })
            })()
        };
        driver.ok_or_else(|| Probe::Unusable("the driver's library lacks functions".to_owned()))
    }

    fn first_gpu(&self) -> Result<Gpu, Probe> {
        // SAFETY (of all calls): pointers are to live values of the types in cuda.h, and the name's
        // length is that of its buffer.
        let integer = |ask: &dyn Fn(*mut c_int) -> Code| {
            let mut value = 0;
            done(ask(&raw mut value)).map(|()| value)
        };
        // SAFETY: as above.
        done(unsafe { (self.init)(0) })?;
        // SAFETY: as above.
        let driver = integer(&|value| unsafe { (self.version)(value) })?;
        // SAFETY: as above.
        let num_devices = integer(&|value| unsafe { (self.count)(value) })?;
        if num_devices < 1 {
            return Err(Probe::Absent("the driver knows none"));
        }
        // SAFETY: as above.
        let device = integer(&|value| unsafe { (self.get)(value, 0) })?;
        let attribute = |which: c_int| {
            // SAFETY: as above.
            integer(&|value| unsafe { (self.attribute)(value, which, device) })
        };
        let capability = (attribute(CAPABILITY_MAJOR)?, attribute(CAPABILITY_MINOR)?);
        let mut name = [0u8; 128];
        // SAFETY: as above.
        done(unsafe { (self.name)(name.as_mut_ptr().cast(), name.len() as c_int, device) })?;
        let mut total_bytes = 0;
        // SAFETY: as above.
        done(unsafe { (self.total_mem)(&raw mut total_bytes, device) })?;
        let name = CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy();
        let (name, total_bytes) = (name.into_owned(), total_bytes as u64);
        Gpu { name, total_bytes, driver, capability, num_devices }.checked()
    }
}

/// Attributes of a device, as cuda.h numbers them.
const CAPABILITY_MAJOR: c_int = 75;
const CAPABILITY_MINOR: c_int = 76;

impl Gpu {
    /// The GPU, if driver and generation are new enough.
    fn checked(self) -> Result<Self, Probe> {
        if self.driver < MIN_DRIVER {
            return Err(Probe::Unusable(format!(
                "expected a driver for CUDA {} or later, came one for {}; update the driver",
                version(MIN_DRIVER),
                version(self.driver),
            )));
        }
        if self.capability < MIN_CAPABILITY {
            let ((min_major, min_minor), (major, minor)) = (MIN_CAPABILITY, self.capability);
            return Err(Probe::Unusable(format!(
                "expected compute capability {min_major}.{min_minor} or later, came {} with \
                 {major}.{minor}; take a newer GPU",
                self.name,
            )));
        }
        Ok(self)
    }
}

/// 12080 as 12.8.
pub(super) fn version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// The function `name`.
///
/// # Safety
/// `F` must be a pointer to a function with the signature of `name`.
unsafe fn symbol<F: Copy>(library: NonNull<c_void>, name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: the library is open, and the name ends with a zero.
    let address = unsafe { libc::dlsym(library.as_ptr(), name.as_ptr()) };
    // SAFETY: not null, so the address of a function of this signature, as the caller vouches.
    (!address.is_null()).then(|| unsafe { transmute_copy(&address) })
}

fn last_dl_error() -> String {
    // SAFETY: the text belongs to the C library until this thread's next dl function.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, so a text that ends with a zero.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// What it means that the library cannot be loaded.
fn not_loaded(text: &str) -> Probe {
    // An image that was saved while the driver was mounted keeps an empty file in its place.
    let is_missing = text.contains("No such file") || text.contains("too short");
    if is_missing && text.contains("libcuda.so.1") {
        return Probe::Absent("there is no driver");
    }
    Probe::Unusable("the driver's library is there but cannot be loaded".to_owned())
}

/// A code of the driver as a result.
fn done(code: Code) -> Result<(), Probe> {
    Err(match code {
        0 => return Ok(()),
        34 => Probe::Absent("the driver is a stand-in for linking"),
        100 => Probe::Absent("the driver finds none"),
        other => Probe::Unusable(format!("the driver answers with {}", code_name(other))),
    })
}

/// A code by number, and by name where it is a common one.
fn code_name(code: Code) -> String {
    let name = match code {
        2 => "CUDA_ERROR_OUT_OF_MEMORY",
        3 => "CUDA_ERROR_NOT_INITIALIZED",
        4 => "CUDA_ERROR_DEINITIALIZED",
        46 => "CUDA_ERROR_DEVICE_UNAVAILABLE",
        101 => "CUDA_ERROR_INVALID_DEVICE",
        214 => "CUDA_ERROR_ECC_UNCORRECTABLE",
        304 => "CUDA_ERROR_OPERATING_SYSTEM",
        802 => "CUDA_ERROR_SYSTEM_NOT_READY",
        803 => "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        804 => "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
        999 => "CUDA_ERROR_UNKNOWN",
        _ => return format!("error {code}"),
    };
    format!("error {code} ({name})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(driver: i32, capability: (i32, i32)) -> Gpu {
        let name = "GPU".to_owned();
        Gpu { name, total_bytes: 8 << 30, driver, capability, num_devices: 1 }
    }

    #[test]
    fn old_drivers_and_old_gpus_are_unusable() {
        assert!(gpu(12000, (7, 5)).checked().is_ok() && gpu(13010, (12, 0)).checked().is_ok());
        for (driver, capability, expected) in [
            (11080, (8, 6), "a driver for CUDA 12.0 or later, came one for 11.8"),
            (12080, (7, 0), "capability 7.5 or later, came GPU with 7.0"),
            (12080, (6, 1), "came GPU with 6.1"),
        ] {
            let Err(Probe::Unusable(reason)) = gpu(driver, capability).checked() else {
                panic!("{driver} {capability:?} is taken");
            };
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn only_the_absence_of_a_gpu_is_absence() {
        assert_eq!(done(0), Ok(()));
        for code in [34, 100] {
            assert!(matches!(done(code), Err(Probe::Absent(_))), "{code}");
        }
        for (code, named) in
            [(803, "error 803 (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)"), (5, "error 5")]
        {
            let Err(Probe::Unusable(reason)) = done(code) else { panic!("{code} is taken") };
            assert!(reason.ends_with(named), "{reason}");
        }
        let glibc = "libcuda.so.1: cannot open shared object file: No such file or directory";
        assert!(matches!(not_loaded(glibc), Probe::Absent(_)));
        assert!(matches!(not_loaded("/usr/lib/libcuda.so.1: file too short"), Probe::Absent(_)));
        for text in ["libcuda.so.1: wrong ELF class", &glibc.replace("cuda", "nvidia-ml"), ""] {
            assert!(matches!(not_loaded(text), Probe::Unusable(_)), "{text}");
        }
    }
}
