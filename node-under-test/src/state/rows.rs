//! A walk over the rows of one bucket.

use super::error::Result;
use node_base::backend::{Bucket, ReadView};
use std::ops::ControlFlow;

/// Visits rows until `visit` fails, and passes its error on.
pub fn for_each(
    view: &dyn ReadView,
    bucket: Bucket,
    from: &[u8],
    to: Option<&[u8]>,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let mut failure = None;
    view.scan(bucket, from, to, &mut |key, value| match visit(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failure.map_or(Ok(()), Err)
}
