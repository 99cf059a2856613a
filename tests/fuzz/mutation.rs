//! Inputs made from other inputs, the same ones for the same seed.

/// The longest input, in bytes.
const LONGEST: usize = 4096;

/// Changes inputs of a corpus in the ways in which parsers break.
#[derive(Debug)]
pub(super) struct Mutator {
    state: u64,
    corpus: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// Begins at a seed. The corpus is not empty; `words` are what the inputs' language is made of.
    pub(super) fn new(seed: u64, corpus: Vec<Vec<u8>>, words: Vec<Vec<u8>>) -> Self {
        Self {
            state: seed,
            corpus,
            words,
        }
    }

    /// One input of the corpus, changed one to four times.
    pub(super) fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.entry().to_vec();
        for _ in 0..=self.below(3) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len());
        let end = (at + 1 + self.below(16)).min(input.len());
        match self.below(8) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.below(7);
                }
            }
            1 => {
                let byte = self.next().to_le_bytes()[0];
                input.insert(at, byte);
            }
            2 => drop(input.drain(at..end)),
            3 => {
                let piece = input[at..end].to_vec();
                self.insert(input, &piece);
            }
            4 => input.truncate(at),
            5 => {
                let other = self.entry().to_vec();
                let from = self.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let word = self.below(self.words.len().saturating_sub(1));
                let word = self.words.get(word).cloned().unwrap_or_default();
                // A word takes another's place as often as it is added.
                if self.below(1) == 0 {
                    let end = (at + word.len()).min(input.len());
                    input.drain(at..end);
                    input.splice(at..at, word);
                } else {
                    self.insert(input, &word);
                }
            }
        }
    }

    fn insert(&mut self, input: &mut Vec<u8>, piece: &[u8]) {
        let at = self.below(input.len());
        input.splice(at..at, piece.iter().copied());
    }

    fn entry(&mut self) -> &[u8] {
        let number = self.below(self.corpus.len() - 1);
        &self.corpus[number]
    }

    /// A number from zero to this one, itself included.
    fn below(&mut self, most: usize) -> usize {
        let range = u64::try_from(most).expect("a length") + 1;
        usize::try_from(self.next() % range).expect("it is no greater")
    }

    /// The next number of a sequence that looks random.
    ///
    /// # Source
    /// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
