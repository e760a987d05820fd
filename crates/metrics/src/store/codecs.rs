//! How rows of numbers become few bits: whole numbers by the changes of their distance, floats by what differs (Gorilla).

use super::bits::{BitReader, BitWriter};

/// Values as whole numbers, if all of them are, or else as floats.
pub(super) enum ValueCodec {
    Whole(DeltaCodec),
    Float(XorCodec),
}

impl ValueCodec {
    /// The codec for these values.
    pub(super) fn of(mut values: impl Iterator<Item = f64>) -> ValueCodec {
        ValueCodec::new(values.all(|value| as_whole(value).is_some()))
    }

    pub(super) fn new(whole: bool) -> ValueCodec {
        if whole { ValueCodec::Whole(DeltaCodec::default()) } else { ValueCodec::Float(XorCodec::default()) }
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self, ValueCodec::Whole(_))
    }

    pub(super) fn write(&mut self, value: f64, bits: &mut BitWriter) {
        match self {
            ValueCodec::Whole(codec) => codec.write(value as i64, bits),
            ValueCodec::Float(codec) => codec.write(value.to_bits(), bits),
        }
    }

    pub(super) fn read(&mut self, bits: &mut BitReader) -> f64 {
        match self {
            ValueCodec::Whole(codec) => codec.read(bits) as f64,
            ValueCodec::Float(codec) => f64::from_bits(codec.read(bits)),
        }
    }
}

/// Whole numbers as changes of their distance: a unary class (0, 10, 110, 1110, 1111) and 0, 7, 12, 20 or 64 bits.
#[derive(Default)]
pub(super) struct DeltaCodec {
    previous: i64,
    delta: i64,
}

/// Widths of the classes between "no change" and "all 64 bits".
const DELTA_CLASS_BITS: [u32; 3] = [7, 12, 20];

impl DeltaCodec {
    pub(super) fn write(&mut self, number: i64, bits: &mut BitWriter) {
        let delta = number.wrapping_sub(self.previous);
        let change = delta.wrapping_sub(self.delta);
        (self.previous, self.delta) = (number, delta);
        if change == 0 {
            return bits.push(0, 1);
        }
        for (class, width) in DELTA_CLASS_BITS.into_iter().enumerate() {
            let half = 1i64 << (width - 1);
            if (-half..half).contains(&change) {
                // `class + 1` ones and a zero, then the change shifted to be positive.
                bits.push((1 << (class + 2)) - 2, class as u32 + 2);
                return bits.push((change + half) as u64, width);
            }
        }
        bits.push(0b1111, 4);
        bits.push(change as u64, 64);
    }

    pub(super) fn read(&mut self, bits: &mut BitReader) -> i64 {
        let ones = bits.pull_ones(4);
        let change = match ones {
            0 => 0,
            4 => bits.pull(64) as i64,
            class => {
                let width = DELTA_CLASS_BITS[class as usize - 1];
                bits.pull(width) as i64 - (1i64 << (width - 1))
            }
        };
        self.delta = self.delta.wrapping_add(change);
        self.previous = self.previous.wrapping_add(self.delta);
        self.previous
    }
}

/// Changes of distances between whole numbers, small ones of either sign as small numbers.
#[derive(Clone, Copy, Default)]
pub(super) struct Changes {
    previous: i64,
    delta: i64,
}

impl Changes {
    pub(super) fn of(&mut self, number: i64) -> u64 {
        let delta = number.wrapping_sub(self.previous);
        let change = delta.wrapping_sub(self.delta);
        (self.previous, self.delta) = (number, delta);
        ((change << 1) ^ (change >> 63)) as u64
    }

    pub(super) fn apply(&mut self, change: u64) -> i64 {
        let change = (change >> 1) as i64 ^ -((change & 1) as i64);
        self.delta = self.delta.wrapping_add(change);
        self.previous = self.previous.wrapping_add(self.delta);
        self.previous
    }
}

/// What does not fit into so many ones is written in full.
const RICE_ONES_MAX: u32 = 20;
/// Changes of a chunk that need more bits than this are mostly written in full.
pub(super) const RICE_BITS_MAX: u8 = 40;

pub(super) fn rice_cost(number: u64, bits: u8) -> u64 {
    match number >> bits {
        ones if ones < u64::from(RICE_ONES_MAX) => ones + 1 + u64::from(bits),
        _ => u64::from(RICE_ONES_MAX + u64::BITS),
    }
}

/// As many ones as `2^bits` fits into the number, a zero, and the rest.
pub(super) fn rice_write(number: u64, bits: u8, out: &mut BitWriter) {
    let ones = number >> bits;
    if ones < u64::from(RICE_ONES_MAX) {
        out.push((1 << (ones + 1)) - 2, ones as u32 + 1);
        out.push(number, u32::from(bits));
    } else {
        out.push(u64::MAX, RICE_ONES_MAX);
        out.push(number, u64::BITS);
    }
}

pub(super) fn rice_read(bits: u8, from: &mut BitReader<'_>) -> u64 {
    match from.pull_ones(RICE_ONES_MAX) {
        RICE_ONES_MAX => from.pull(u64::BITS),
        ones => u64::from(ones) << bits | from.pull(u32::from(bits)),
    }
}

/// A value as a whole number, if it is one and comes back with the same bits.
pub(super) fn as_whole(value: f64) -> Option<i64> {
    let whole = value as i64;
    ((whole as f64).to_bits() == value.to_bits()).then_some(whole)
}

/// Floats by XOR: 0 for the same, 10 and the bits inside the last window, or 11, a new window and its bits.
#[derive(Default)]
pub(super) struct XorCodec {
    previous: u64,
    /// Zero bits before and after the window of meaningful bits; a width of 0 means that there is none yet.
    leading: u32,
    width: u32,
}

impl XorCodec {
    pub(super) fn write(&mut self, value: u64, bits: &mut BitWriter) {
        let difference = value ^ self.previous;
        self.previous = value;
        if difference == 0 {
            return bits.push(0, 1);
        }
        // Five bits hold the count of leading zeros.
        let leading = difference.leading_zeros().min(31);
        let trailing = difference.trailing_zeros();
        let fits = self.width > 0 && leading >= self.leading && 64 - trailing <= self.leading + self.width;
        if fits {
            bits.push(0b10, 2);
        } else {
            (self.leading, self.width) = (leading, 64 - leading - trailing);
            bits.push(0b11, 2);
            bits.push(u64::from(self.leading), 5);
            bits.push(u64::from(self.width - 1), 6);
        }
        bits.push(difference >> (64 - self.leading - self.width), self.width);
    }

    pub(super) fn read(&mut self, bits: &mut BitReader) -> u64 {
        if bits.pull(1) == 0 {
            return self.previous;
        }
        if bits.pull(1) == 1 {
            self.leading = bits.pull(5) as u32;
            self.width = bits.pull(6) as u32 + 1;
        }
        self.previous ^= bits.pull(self.width) << (64 - self.leading - self.width);
        self.previous
    }
}
