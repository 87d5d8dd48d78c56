// Goal: the tail that stalls alone make is right. Method: stalls few enough to work it out by hand.
// At a load of 0.8 a stall of S makes late what comes within 5 S, by S at first and then less and
// less: by more than S - 200 us for 1,000 us, which is a thousandth of a second.
#include "bench/stalls.h"

#include <gtest/gtest.h>

namespace runnel::bench {
namespace {

double tail_of(std::vector<stall> found) {
  return stalls{.seconds = 1, .found = std::move(found)}.p999_us(0.8);
}

TEST(Stalls, NoneMakeNoTail) {
  EXPECT_NEAR(tail_of({}), 0, 1);
}

TEST(Stalls, OneLeavesABacklogThatShrinks) {
  EXPECT_NEAR(tail_of({{500, 1500}}), 800, 2);
}

TEST(Stalls, TooShortForOneOfAThousandMakesNone) {
  EXPECT_NEAR(tail_of({{500, 690}}), 0, 1);
}

// Each may make 500 us late: by more than S - 100 us.
TEST(Stalls, TwoThatAreFarApartShareTheThousandth) {
  EXPECT_NEAR(tail_of({{0, 1000}, {500'000, 501'000}}), 900, 2);
}

TEST(Stalls, TwoInARowAreAsOne) {
  EXPECT_NEAR(tail_of({{0, 1000}, {1000, 2000}}), 1800, 2);
}

TEST(Stalls, OfBothCoresAtOnceCountOnce) {
  EXPECT_NEAR(tail_of({{0, 1000}, {200, 700}, {500, 1500}}), 1300, 2);
}

// What comes from 1,250 on is still waiting when the second begins, and waits 1,000 us more: 1,750.
TEST(Stalls, OneInTheBacklogOfAnotherIsWorse) {
  EXPECT_NEAR(tail_of({{0, 1000}, {2000, 3000}}), 1550, 2);
}

}  // namespace
}  // namespace runnel::bench
