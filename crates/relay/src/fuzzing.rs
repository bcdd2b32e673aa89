//! What fuzzing reaches that is internal to this crate.

use baton_packet::RequestHead;

use crate::framing::Framing;

/// How many bytes behind `head` belong to its body when they come in these pieces; `None`: more would have to come.
///
/// # Errors
/// What is wrong with its chunks.
pub fn body_length<'a>(
    head: &RequestHead,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<usize>, String> {
    let mut framing = Framing::of(head);
    let mut length = 0;
    for piece in pieces {
        length += framing.advance(piece).map_err(|error| error.to_string())?;
    }
    Ok(framing.is_complete().then_some(length))
}
