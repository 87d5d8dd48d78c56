// Goal: page files are whole pages, reserved and sealed, and a shortage says what to change.
// Method: real memfds; what the machine may lack (huge pages) is judged by what it reports.
#include "mempool/pages.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>

#include "mempool/base/units.h"

namespace runnel {
namespace {

struct stat status_of(const page_file& pages) {
  struct stat status{};
  EXPECT_EQ(fstat(pages.fd.get(), &status), 0);
  return status;
}

TEST(Pages, NormalPagesAreWholeAndReservedAtOnce) {
  auto pages = allocate_pages(10'000, false);
  ASSERT_TRUE(pages) << pages.error().message();
  EXPECT_EQ(pages->kind, page_kind::normal);
  EXPECT_EQ(pages->page_bytes, 4096U);
  EXPECT_EQ(pages->bytes, 12'288U);
  EXPECT_EQ(status_of(*pages).st_size, 12'288);
  EXPECT_EQ(status_of(*pages).st_blocks * 512, 12'288);  // nothing is left to fault for
}

TEST(Pages, NobodyWhoHoldsTheFileCanResizeIt) {
  auto pages = allocate_pages(64 * kib, false);
  ASSERT_TRUE(pages) << pages.error().message();
  const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  EXPECT_EQ(fcntl(pages->fd.get(), F_GET_SEALS) & seals, seals);
  EXPECT_EQ(ftruncate(pages->fd.get(), 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(ftruncate(pages->fd.get(), 1 << 20), -1);
  EXPECT_EQ(status_of(*pages).st_size, 65'536);
}

TEST(Pages, HugePagesAreTakenWhereThereAreEnoughAndElseNormalOnes) {
  const bool there = has_huge_pages(huge_bytes) && huge_pages_free(huge_bytes) >= 2;
  auto pages = allocate_pages(3 * mib, true);
  ASSERT_TRUE(pages) << pages.error().message();
  EXPECT_EQ(pages->kind, there ? page_kind::huge : page_kind::normal);
  EXPECT_EQ(pages->bytes, there ? 4 * mib : 3 * mib);
  EXPECT_EQ(status_of(*pages).st_blksize, static_cast<blksize_t>(pages->page_bytes));
}

TEST(Pages, MoreHugePagesThanThereAreFallsBackToNormalOnes) {
  if (huge_pages_free(giant_bytes) != 0) {
    GTEST_SKIP() << "it would take a page of 1 GiB instead";
  }
  auto pages = allocate_pages((huge_pages_free(huge_bytes) + 1) * 2 * mib, true);
  ASSERT_TRUE(pages) << pages.error().message();
  EXPECT_EQ(pages->kind, page_kind::normal);
}

TEST(Pages, MoreMemoryThanThereIsIsRefusedWithTheNumberToChange) {
  for (const std::size_t bytes : {std::size_t{1} << 50U, ~std::size_t{0}}) {
    for (const bool huge : {false, true}) {
      auto pages = allocate_pages(bytes, huge);
      ASSERT_FALSE(pages);
      EXPECT_EQ(pages.error().what.code, errc::no_memory);
      EXPECT_NE(pages.error().message().find("MemAvailable"), std::string::npos)
          << pages.error().message();
    }
  }
}

TEST(Pages, RunningOutOfDescriptorsIsAnOutcome) {
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 0;
  setrlimit(RLIMIT_NOFILE, &none);
  auto pages = allocate_pages(4096, false);
  setrlimit(RLIMIT_NOFILE, &before);
  ASSERT_FALSE(pages);
  EXPECT_EQ(pages.error().what, (error{errc::os, EMFILE}));
}

}  // namespace
}  // namespace runnel
