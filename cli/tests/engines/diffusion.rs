//! The engine `sd-cpp` with a stand-in of its program.

use crate::Case;

pub(crate) const ALL: &[Case] = &[];
