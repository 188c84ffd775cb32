//! The messages of a conversation that wait for their other half, by numbers that pairing knows them by.

/// Messages that wait for their call, by number.
pub struct Messages<M> {
    slots: Vec<Option<M>>,
    free: Vec<usize>,
}

impl<M> Default for Messages<M> {
    fn default() -> Self {
        Messages { slots: Vec::new(), free: Vec::new() }
    }
}

impl<M> Messages<M> {
    /// Keeps a message; its number is free again once it is removed.
    pub fn insert(&mut self, message: M) -> usize {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[at] = Some(message);
        at
    }

    /// The message of a number.
    pub fn get(&self, at: usize) -> Option<&M> {
        self.slots.get(at)?.as_ref()
    }

    /// Takes the message of a number out.
    pub fn remove(&mut self, at: usize) -> Option<M> {
        self.free.push(at);
        self.slots[at].take()
    }

    /// Frees the memory where no message is left.
    pub fn shrink(&mut self) {
        if self.free.len() == self.slots.len() {
            *self = Messages::default();
        }
    }

    /// Bytes held beside what the messages say of themselves.
    pub fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Option<M>>() + self.free.capacity() * size_of::<usize>()
    }
}
