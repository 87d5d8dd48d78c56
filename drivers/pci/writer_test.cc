// Goal: writes arrive as one, refusals keep their errno, and nothing waits for ever for a kernel
// that is busy. Method: files, and a full pipe for such a kernel.

#include "drivers/pci/writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "drivers/pci/machine_for_tests.h"
#include "mempool/base/unique_fd.h"

namespace runnel::pci {
namespace {

class SystemWriter : public testing::Test {
 protected:
  machine_for_tests machine;
  system_writer writes{machine.files(), std::chrono::seconds{10}};
};

TEST_F(SystemWriter, WritesToFilesThatAreThereOnly) {
  machine.file("/sys/bind", "");
  EXPECT_TRUE(writes.may_write("/sys/bind"));
  EXPECT_TRUE(writes.write("/sys/bind", "0000:01:00.0"));
  EXPECT_EQ(machine.text("/sys/bind"), "0000:01:00.0");
  EXPECT_EQ(writes.may_write("/sys/none"), fail(errc::os, ENOENT));
  EXPECT_EQ(writes.write("/sys/none", "x"), fail(errc::os, ENOENT));
  EXPECT_EQ(system_writer(file_tree{}, std::chrono::seconds{10}).write("/dev/full", "x"),
            fail(errc::os, ENOSPC));
}

TEST_F(SystemWriter, KeepsFilesWholeAndInAFolderThatItMakes) {
  machine.folder("/run");
  EXPECT_TRUE(writes.keep("/run/runnel/a", "first"));
  EXPECT_TRUE(writes.keep("/run/runnel/a", "2"));
  EXPECT_EQ(machine.text("/run/runnel/a"), "2");
  EXPECT_EQ(machine.files().names("/run/runnel"), std::vector<std::string>{"a"});
  writes.forget("/run/runnel/a");
  EXPECT_FALSE(machine.files().exists("/run/runnel/a"));
  EXPECT_FALSE(writes.keep("/none/runnel/a", "x"));
}

TEST_F(SystemWriter, AKernelThatIsBusyIsNotWaitedForForEver) {
  machine.folder("/sys");
  const std::string path = machine.files().real("/sys/unbind");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  const unique_fd full{open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC)};
  const std::array<char, 4096> page{};
  while (write(full.get(), page.data(), page.size()) > 0) {
  }
  system_writer hasty{machine.files(), std::chrono::milliseconds{20}};
  EXPECT_EQ(hasty.write("/sys/unbind", "0000:01:00.0"), fail(errc::timed_out));
}

}  // namespace
}  // namespace runnel::pci
