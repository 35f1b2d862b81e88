//! The allocator: TLSF, which finds a place in constant time, and is smaller than the standard library's (docs/dependencies.md).

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::memory_grow;
use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};
use rlsf::{FlexSource, FlexTlsf};

const PAGE: usize = 1 << 16;
const BITS: usize = usize::BITS as usize;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(UnsafeCell::new(FlexTlsf::new(Pages)));

/// The pages at the end of memory, as one pool: nothing else asks for any, so that what is freed at its end and what is added
/// lie together.
struct Pages;

// SAFETY: what `memory.grow` adds is nobody's yet, and lies behind what it added before.
unsafe impl FlexSource for Pages {
    unsafe fn alloc(&mut self, min_size: usize) -> Option<NonNull<[u8]>> {
        let pages = min_size.div_ceil(PAGE);
        let before = memory_grow::<0>(pages);
        if before == usize::MAX {
            return None;
        }
        let start = NonNull::new(ptr::with_exposed_provenance_mut(before * PAGE))?;
        Some(NonNull::slice_from_raw_parts(start, pages * PAGE))
    }

    unsafe fn realloc_inplace_grow(&mut self, pool: NonNull<[u8]>, min_len: usize) -> Option<usize> {
        let pages = (min_len - pool.len()).div_ceil(PAGE);
        (memory_grow::<0>(pages) != usize::MAX).then(|| pool.len() + pages * PAGE)
    }

    fn supports_realloc_inplace_grow(&self) -> bool {
        true
    }

    fn is_contiguous_growable(&self) -> bool {
        true
    }

    fn min_align(&self) -> usize {
        PAGE
    }
}

struct Allocator(UnsafeCell<FlexTlsf<Pages, usize, usize, BITS, BITS>>);

// SAFETY: an instance has one thread.
unsafe impl Sync for Allocator {}

// SAFETY: the pool gives and takes what `GlobalAlloc` asks for. It calls nobody, so it is never borrowed twice.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let place = unsafe { (*self.0.get()).allocate(layout) };
        place.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { (*self.0.get()).deallocate(NonNull::new_unchecked(place), layout.align()) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let place = unsafe { (*self.0.get()).reallocate(NonNull::new_unchecked(place), wanted) };
        place.map_or(ptr::null_mut(), NonNull::as_ptr)
    }
}
