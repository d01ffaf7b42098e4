#![allow(unsafe_code)] // cpuid, xgetbv and one system call that asks for tile registers
//! What the processor has, what is used, and why.

use std::sync::OnceLock;

use crate::backend::settings::Settings;

/// Instruction sets for which kernels exist, least capable first within one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust.
    Portable,
    /// 128-bit vectors of 64-bit Arm.
    Neon,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors (F, BW, DQ, VL).
    Avx512,
    /// AVX-512 and bf16 tile products.
    Amx,
}

impl Isa {
    /// The name `PELLUCID_ISA` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    /// The inverse of [`Isa::name`], in any letter case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Portable, Self::Neon, Self::Avx2, Self::Avx512, Self::Amx]
            .into_iter()
            .find(|isa| isa.name().eq_ignore_ascii_case(name))
    }
}

/// What was detected, what is used and why.
#[derive(Clone, Debug)]
pub struct Features {
    /// Cores that this process may use.
    pub cores: usize,
    /// AVX2 and FMA.
    pub avx2: bool,
    /// AVX-512 F, BW, DQ and VL.
    pub avx512: bool,
    /// AVX-512 conversions to bf16.
    pub avx512_bf16: bool,
    /// `vdpbf16ps` is faster than f32 multiply-adds: AMD's is; on Intel it has half their speed (measured: 230
    /// against 390 GFLOP/s in products).
    pub bf16_dots: bool,
    /// The processor has AMX tiles with bf16 products.
    pub amx: bool,
    /// The operating system gave this process the tile registers.
    pub amx_permitted: bool,
    /// 64-bit Arm vectors.
    pub neon: bool,
    /// The most capable set that is present and allowed.
    pub used: Isa,
    /// Why `used` and nothing better.
    pub reason: String,
}

impl Features {
    /// Detected at the first call.
    pub fn get() -> &'static Self {
        static FEATURES: OnceLock<Features> = OnceLock::new();
        FEATURES.get_or_init(|| Self::detect(Settings::get().isa))
    }

    fn detect(cap: Option<Isa>) -> Self {
        let mut features = Self::processor();
        (features.used, features.reason) = features.choose(cap);
        features
    }

    fn has(&self, isa: Isa) -> bool {
        match isa {
            Isa::Portable => true,
            Isa::Neon => self.neon,
            Isa::Avx2 => self.avx2,
            Isa::Avx512 => self.avx512,
            Isa::Amx => self.amx && self.amx_permitted && self.avx512 && self.avx512_bf16,
        }
    }

    fn choose(&self, cap: Option<Isa>) -> (Isa, String) {
        let order = [Isa::Amx, Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];
        let best = order.into_iter().find(|&isa| self.has(isa)).unwrap_or(Isa::Portable);
        let Some(cap) = cap else {
            let why = match best {
                Isa::Amx => "the best that kernels exist for",
                _ if self.amx && !self.amx_permitted => "AMX is present, but its use was refused",
                _ => "the best that this processor has",
            };
            return (best, why.into());
        };
        let used =
            order.into_iter().find(|&isa| isa <= cap && self.has(isa)).unwrap_or(Isa::Portable);
        let set = format!("PELLUCID_ISA={}", cap.name());
        match used {
            _ if used == best => (used, format!("{set} is no less than this processor has")),
            _ if used == cap => (used, format!("{set}; {} is available", best.name())),
            _ => (used, format!("{set} is not here; the next lower one is used")),
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn processor() -> Self {
        use std::arch::is_x86_feature_detected as has;
        let amx = tiles_present();
        Self {
            cores: cores(),
            avx2: has!("avx2") && has!("fma"),
            avx512: has!("avx512f")
                && has!("avx512bw")
                && has!("avx512dq")
                && has!("avx512vl")
                && has!("avx2")
                && has!("fma"),
            avx512_bf16: has!("avx512bf16"),
            bf16_dots: has!("avx512bf16") && amd(),
            amx,
            amx_permitted: amx && tiles_permitted(),
            neon: false,
            used: Isa::Portable,
            reason: String::new(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn processor() -> Self {
        Self {
            cores: cores(),
            avx2: false,
            avx512: false,
            avx512_bf16: false,
            bf16_dots: false,
            amx: false,
            amx_permitted: false,
            neon: cfg!(target_arch = "aarch64"), // part of the base architecture
            used: Isa::Portable,
            reason: String::new(),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The vendor string of CPUID leaf 0.
#[cfg(target_arch = "x86_64")]
fn amd() -> bool {
    let leaf = std::arch::x86_64::__cpuid(0);
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}

/// AMX-TILE and AMX-BF16 in CPUID leaf 7, tile state enabled in XCR0.
#[cfg(target_arch = "x86_64")]
fn tiles_present() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let max_leaf = __cpuid(0).eax;
    let xsave = __cpuid(1).ecx & (1 << 27) != 0;
    if max_leaf < 7 || !xsave {
        return false;
    }
    let leaf = __cpuid_count(7, 0);
    // XCR0 bits 17 and 18: the system saves tile configuration and tile data.
    leaf.edx & (1 << 24) != 0 && leaf.edx & (1 << 22) != 0 && xcr0() & (3 << 17) == 3 << 17
}

#[cfg(target_arch = "x86_64")]
fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: called only where CPUID says that the system enabled XSAVE, so XGETBV exists.
    unsafe {
        std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Linux hands out the 8 KiB of tile state only to processes that ask.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn tiles_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: this system call changes only what this process may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn tiles_permitted() -> bool {
    false // how to ask is known for Linux only
}

#[cfg(test)]
#[allow(clippy::print_stderr)]
mod tests {
    use super::*;

    fn machine() -> Features {
        Features {
            cores: 2,
            avx2: true,
            avx512: true,
            avx512_bf16: true,
            bf16_dots: false,
            amx: true,
            amx_permitted: true,
            neon: false,
            used: Isa::Portable,
            reason: String::new(),
        }
    }

    #[test]
    fn the_cap_is_obeyed_and_explained() {
        assert_eq!(machine().choose(None).0, Isa::Amx);
        assert_eq!(machine().choose(Some(Isa::Avx512)).0, Isa::Avx512);
        assert_eq!(machine().choose(Some(Isa::Portable)).0, Isa::Portable);
        let (used, why) = machine().choose(Some(Isa::Neon));
        assert_eq!(used, Isa::Portable);
        assert!(why.contains("not here"), "{why}");
        let refused = Features { amx_permitted: false, ..machine() };
        let (used, why) = refused.choose(None);
        assert_eq!(used, Isa::Avx512);
        assert!(why.contains("refused"), "{why}");
    }

    #[test]
    fn names_round_trip() {
        for isa in [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Amx] {
            assert_eq!(Isa::from_name(isa.name()), Some(isa));
        }
        eprintln!("{:?}", Features::get());
    }
}
