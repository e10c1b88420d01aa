//! A slow and simple implementation of RFC 1951, which records how far back the data refers.

#[derive(Default)]
pub(super) struct Inflate {
    /// The whole output so far; nothing is forgotten.
    history: Vec<u8>,
    /// The largest distance so far.
    pub(super) farthest: usize,
}

impl Inflate {
    /// Decompresses blocks up to the end of `data`, which ends with an empty uncompressed block.
    pub(super) fn inflate(&mut self, data: &[u8]) -> Vec<u8> {
        let start = self.history.len();
        let mut bits = Bits { data, at: 0 };
        while bits.at < data.len() * 8 {
            assert_eq!(bits.take(1), 0, "no block is marked as final");
            match bits.take(2) {
                0 => self.stored(&mut bits),
                1 => {
                    let mut literals = [8; 288];
                    literals[144..256].fill(9);
                    literals[256..280].fill(7);
                    self.compressed(&mut bits, &Code::new(&literals), &Code::new(&[5; 30]));
                }
                2 => {
                    let (literals, distances) = dynamic_codes(&mut bits);
                    self.compressed(&mut bits, &literals, &distances);
                }
                _ => panic!("reserved type of block"),
            }
        }
        self.history[start..].to_vec()
    }

    fn stored(&mut self, bits: &mut Bits<'_>) {
        bits.at = bits.at.next_multiple_of(8);
        let length = bits.take(16);
        assert_eq!(bits.take(16), !length & 0xffff);
        for _ in 0..length {
            self.history.push(bits.take(8) as u8);
        }
    }

    fn compressed(&mut self, bits: &mut Bits<'_>, literals: &Code, distances: &Code) {
        loop {
            match bits.symbol(literals) {
                literal @ 0..=255 => self.history.push(literal as u8),
                256 => return,
                symbol => {
                    let length = match symbol - 257 {
                        28 => 258,
                        code @ ..8 => 3 + code,
                        code => {
                            let extra = code / 4 - 1;
                            3 + ((4 + code % 4) << extra) + bits.take(extra)
                        }
                    };
                    let distance = match bits.symbol(distances) {
                        code @ ..4 => 1 + code,
                        code => {
                            let extra = code / 2 - 1;
                            1 + ((2 + code % 2) << extra) + bits.take(extra)
                        }
                    };
                    self.farthest = self.farthest.max(distance);
                    for _ in 0..length {
                        self.history.push(self.history[self.history.len() - distance]);
                    }
                }
            }
        }
    }
}

/// Reads the codes of a block that contains its own: literals and lengths, distances.
fn dynamic_codes(bits: &mut Bits<'_>) -> (Code, Code) {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let (literals, distances, codes) = (bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4);
    let mut code_lengths = [0; 19];
    for &symbol in &ORDER[..codes] {
        code_lengths[symbol] = bits.take(3);
    }
    let code_lengths = Code::new(&code_lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (length, times) = match bits.symbol(&code_lengths) {
            16 => (*lengths.last().unwrap(), 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            length => (length, 1),
        };
        lengths.extend([length].repeat(times));
    }
    (Code::new(&lengths[..literals]), Code::new(&lengths[literals..]))
}

/// A canonical Huffman code: its symbols by length, in the order of their codes.
struct Code([Vec<usize>; 16]);

impl Code {
    fn new(lengths: &[usize]) -> Self {
        let mut symbols = [const { Vec::new() }; 16];
        for (symbol, &length) in lengths.iter().enumerate() {
            symbols[length].push(symbol);
        }
        Code(symbols)
    }
}

struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, n: usize) -> usize {
        (0..n).map(|i| self.bit() << i).sum()
    }

    fn bit(&mut self) -> usize {
        let bit = self.data[self.at / 8] >> (self.at % 8) & 1;
        self.at += 1;
        usize::from(bit)
    }

    fn symbol(&mut self, code: &Code) -> usize {
        let (mut read, mut first) = (0, 0);
        for symbols in &code.0[1..] {
            read = read << 1 | self.bit();
            if let Some(symbol) = symbols.get(read - first) {
                return *symbol;
            }
            first = (first + symbols.len()) << 1;
        }
        panic!("not a code");
    }
}
