//! Admission with a stand-in of `nvidia-smi`.

use crate::Case;

pub(crate) const ALL: &[Case] = &[];
