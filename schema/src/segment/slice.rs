//! The walk over an input that is in memory as a whole.
//! In: a slice. Out: its blocks, and at its end whether it was torn. It ends after the first error.

use super::Error;
use super::blocks::{Interface, Item, Next, Reader};

/// All blocks of one slice that holds the whole input. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Blocks<'a> {
    reader: Reader,
    rest: &'a [u8],
}

impl<'a> Blocks<'a> {
    pub fn new(bytes: &'a [u8]) -> Blocks<'a> {
        Blocks { reader: Reader::new(), rest: bytes }
    }

    pub fn interfaces(&self) -> &[Interface] {
        self.reader.interfaces()
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<Item<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match self.reader.next(self.rest) {
            Ok(Next::Block(item, len)) => {
                self.rest = &self.rest[len..];
                Some(Ok(item))
            }
            Ok(Next::More(_)) => {
                self.rest = &[];
                Some(Err(Error::Torn { offset: self.reader.offset() }))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}
