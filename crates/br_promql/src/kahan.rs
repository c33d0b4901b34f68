//! Sums that keep what plain addition would round away (Kahan, in Neumaier's form).

/// A running sum and its compensation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Kahan {
    pub(crate) sum: f64,
    pub(crate) compensation: f64,
}

impl Kahan {
    pub(crate) fn new(sum: f64) -> Self {
        Self { sum, compensation: 0.0 }
    }

    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        add(&mut self.sum, &mut self.compensation, value);
    }

    pub(crate) fn scale(&mut self, factor: f64) {
        self.sum *= factor;
        self.compensation *= factor;
    }

    pub(crate) fn value(self) -> f64 {
        self.sum + self.compensation
    }
}

/// The same on a sum and a compensation that are kept apart, such as columns.
#[inline]
pub(crate) fn add(sum: &mut f64, compensation: &mut f64, value: f64) {
    let total = *sum + value;
    if total.is_infinite() {
        *compensation = 0.0;
    } else if sum.abs() >= value.abs() {
        *compensation += (*sum - total) + value;
    } else {
        *compensation += (value - total) + *sum;
    }
    *sum = total;
}

/// A mean that is computed directly and, once the sum would overflow, step by step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    total: Kahan,
    count: f64,
    is_incremental: bool,
}

impl Mean {
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.is_incremental {
            let mut next = self.total;
            next.add(value);
            if self.count <= 1.0 || !next.sum.is_infinite() {
                self.total = next;
                return;
            }
            self.is_incremental = true;
            self.total.scale(1.0 / (self.count - 1.0));
        }
        self.total.scale((self.count - 1.0) / self.count);
        self.total.add(value / self.count);
    }

    pub(crate) fn value(&self) -> f64 {
        if self.is_incremental {
            return self.total.value();
        }
        self.total.sum / self.count + self.total.compensation / self.count
    }
}
