// Goal: the controller behind a vfio-user server serves a client that behaves and survives one that
// does not: memory that leaves under I/O, resets, memory without a file, a vanished client; and
// nothing of one client reaches the next.
// Method: our vfio-user client and the server in one thread over a channel in memory, on a clock of
// the test; a fake disk finishes when it is told to.

#include "apps/target/vfio_user_transport.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "apps/target/fake_client.h"
#include "mempool/sigbus.h"

namespace runnel::target {
namespace {

using fake::machine;
using fake::number;
using vfio::pci_irq;
using vfio::pci_region;

constexpr auto refused_for_memory =
    static_cast<std::uint16_t>(nvme::status_code::data_transfer_error);

class VfioUserTransport : public fake::served_controller {};

class DoorbellsByMessage : public fake::served_controller,
                           public testing::WithParamInterface<doorbell_mode> {
 protected:
  DoorbellsByMessage() : served_controller{GetParam()} {}
};

TEST_F(VfioUserTransport, LooksLikeAnNvmeFunction) {
  EXPECT_EQ(client->region_at(0).size, 0x8000U);
  EXPECT_EQ(client->region_at(7).size, 0x1000U);
  EXPECT_EQ(client->region_at(6).size, 0U);
  EXPECT_EQ(client->irq_at(number(pci_irq::msix)).count, queues_max);
  EXPECT_EQ(client->irq_at(number(pci_irq::intx)).count, 1U);
  EXPECT_EQ(read<std::uint32_t>(pci_region::config, 8) >> 8U, 0x010802U);
  EXPECT_EQ(read<std::uint64_t>(pci_region::bar0, 0) >> 32U & 0xfU, 4U);  // doorbells by lines
  for (std::uint32_t index = 0; index < 6; ++index) {                     // a BAR is a power of two
    EXPECT_EQ(client->region_at(index).size & (client->region_at(index).size - 1), 0U);
  }
}

TEST_F(VfioUserTransport, MovesDataByMappedDoorbells) {
  map_ram();
  enable();
  EXPECT_EQ(status(), nvme::csts_ready);
  make_queues();
  EXPECT_FALSE(client->map_region(0, 0x1000, 0x1000).empty());
  std::memset(ram.at(fake::data), 0x5a, 512);
  submit(nvme::io_opcode::write, 3);
  EXPECT_EQ(answer_at(fake::io_cq, 0), 0);
  EXPECT_EQ(std::memcmp(drive.content(3), ram.at(fake::data), 512), 0);
}

TEST_P(DoorbellsByMessage, MoveDataAndHaveAShadowOnlyWhereItIsWanted) {
  EXPECT_TRUE(client->map_region(0, 0x1000, 0x1000).empty());
  map_ram();
  enable();
  make_queues();
  std::memset(ram.at(fake::data), 0x5b, 512);
  submit(nvme::io_opcode::write, 4);
  EXPECT_EQ(answer_at(fake::io_cq, 0), 0);
  EXPECT_EQ(std::memcmp(drive.content(4), ram.at(fake::data), 512), 0);
  nvme::submission_entry config{};
  config.opcode = static_cast<std::uint8_t>(nvme::admin_opcode::doorbell_buffer_config);
  config.prp1 = fake::data;
  config.prp2 = fake::data + 0x1000;
  const auto refused = static_cast<std::uint16_t>(nvme::status_code::invalid_opcode);
  EXPECT_EQ(order(config), GetParam() == doorbell_mode::shadow ? 0 : refused);
}
INSTANTIATE_TEST_SUITE_P(Modes, DoorbellsByMessage,
                         testing::Values(doorbell_mode::shadow, doorbell_mode::trapped));

TEST_F(VfioUserTransport, TheDoorbellsOfTheLastQueueAreMappedToo) {
  map_ram();
  enable();
  ASSERT_EQ(order(machine::create_cq(queues_max - 1, 16, fake::io_cq, 1)), 0);
  ASSERT_EQ(order(machine::create_sq(queues_max - 1, 16, fake::io_sq, queues_max - 1)), 0);
  const nvme::submission_entry command = machine::io(nvme::io_opcode::read, 1, 1, fake::data);
  std::memcpy(ram.at(fake::io_sq), &command, sizeof command);
  ASSERT_FALSE(client->map_region(0, doorbell_area::offset, doorbell_area::bytes).empty());
  ring(2 * (queues_max - 1), 1);
  turn();
  EXPECT_EQ(answer_at(fake::io_cq, 0), 0);
}

TEST_F(VfioUserTransport, MappedAndMessageDoorbellsAreTheSame) {
  map_ram();
  enable();
  make_queues();
  const nvme::submission_entry command = machine::io(nvme::io_opcode::read, 1, 1, fake::data);
  std::memcpy(ram.at(fake::io_sq), &command, sizeof command);
  write<std::uint32_t>(pci_region::bar0, 0x1080, 1);
  turn();
  EXPECT_EQ(answer_at(fake::io_cq, 0), 0);
  EXPECT_EQ(mmio_read<std::uint32_t>(client->map_region(0, 0x1000, 0x1000).data() + 0x80), 1U);
  EXPECT_EQ(read<std::uint32_t>(pci_region::bar0, 0x1080), 1U);
}

TEST_F(VfioUserTransport, NothingMovesBeforeBusMasteringAndItEndsOnlyWhenQuiet) {
  map_ram();
  enable();
  make_queues();
  drive.how = fake::disk::mode::delayed;
  drive.may_finish = 0;
  submit(nvme::io_opcode::read, 1);
  const std::uint16_t off = 0;
  const auto switched =
      client->region_write(number(pci_region::config), 4, std::as_bytes(std::span{&off, 1}));
  EXPECT_FALSE(ended(switched).has_value());
  drive.may_finish = 8;
  EXPECT_TRUE(succeeds(switched));
  EXPECT_EQ(answer_at(fake::io_cq, 0), 0);
  submit(nvme::io_opcode::read, 2);
  EXPECT_FALSE(answer_at(fake::io_cq, 1).has_value());
  write<std::uint16_t>(pci_region::config, 4, 0x0004);
  turn();
  EXPECT_EQ(answer_at(fake::io_cq, 1), 0);
}

TEST_F(VfioUserTransport, AnUnmapIsAnsweredWhenNothingUsesTheMemoryAnyMore) {
  map_ram();
  enable();
  make_queues();
  drive.how = fake::disk::mode::delayed;
  drive.may_finish = 0;
  submit(nvme::io_opcode::read, 1);
  const auto left = client->unmap(ram.memory);
  EXPECT_FALSE(ended(left).has_value());
  EXPECT_EQ(dma.unmaps, 0U);  // devices keep it until the commands have ended
  drive.may_finish = 8;
  EXPECT_TRUE(succeeds(left));
  EXPECT_EQ(dma.unmaps, 1U);
  EXPECT_EQ(answer_at(fake::io_cq, 0), 0);

  submit(nvme::io_opcode::read, 2);
  EXPECT_FALSE(answer_at(fake::io_cq, 1).has_value());
  EXPECT_EQ(status(), nvme::csts_ready);
  map_ram();  // and the queues go on where they were
  turn();
  EXPECT_EQ(answer_at(fake::io_cq, 1), 0);
}

TEST_F(VfioUserTransport, MemoryIsMappedForDevicesBeforeTheClientGetsItsAnswer) {
  dma.answers = false;
  const auto started = client->map(ram.memory);
  EXPECT_FALSE(ended(started).has_value());
  EXPECT_EQ(dma.maps, 1U);
  dma.answers = true;
  EXPECT_TRUE(succeeds(started));
}

TEST_F(VfioUserTransport, MemoryThatADeviceRefusesIsRefused) {
  dma.answer = fail(errc::no_memory);
  EXPECT_FALSE(succeeds(client->map(ram.memory)));
  dma.answer = {};
  map_ram();
  enable();
  EXPECT_EQ(status(), nvme::csts_ready);
  ASSERT_EQ(troubles.size(), 1U);
  EXPECT_EQ(troubles[0].what.code, errc::no_memory);
  EXPECT_NE(troubles[0].hint.find("its IOMMU does not reach"), std::string::npos);
}

TEST_F(VfioUserTransport, QueuesInMemoryThatADeviceRefusedStayOutOfReach) {
  map_ram();
  enable();
  make_queues();
  ASSERT_TRUE(succeeds(client->unmap(ram.memory)));
  dma.answer = fail(errc::no_memory);
  EXPECT_FALSE(succeeds(client->map(ram.memory)));
  submit(nvme::io_opcode::read, 1);
  EXPECT_FALSE(answer_at(fake::io_cq, 0).has_value());
  dma.answer = {};
  map_ram();
  turn();
  EXPECT_EQ(answer_at(fake::io_cq, 0), 0);
}

TEST_F(VfioUserTransport, CommandsDoNotUseMemoryThatDevicesDoNotReachYet) {
  map_ram();
  enable();
  make_queues();
  fake::shared_ram more{mib};
  more.memory.iova_offset += fake::ram_bytes;  // right behind the other
  const std::uint64_t there = fake::admin_sq + fake::ram_bytes;
  dma.answers = false;
  const auto started = client->map(more.memory);
  turn();
  submit(nvme::io_opcode::read, 1, there);
  EXPECT_EQ(answer_at(fake::io_cq, 0), refused_for_memory);
  EXPECT_EQ(order(machine::create_cq(2, 512, there - 0x1000, 1)),  // from one into the other
            refused_for_memory);
  dma.answers = true;
  EXPECT_TRUE(succeeds(started));
  submit(nvme::io_opcode::read, 1, there);
  EXPECT_EQ(answer_at(fake::io_cq, 1), 0);
  EXPECT_EQ(order(machine::create_cq(2, 512, there - 0x1000, 1)), 0);
  EXPECT_TRUE(succeeds(client->unmap(more.memory)));
}

TEST_F(VfioUserTransport, AResetWaitsForCommandsAndForgetsEverything) {
  map_ram();
  enable();
  make_queues();
  drive.how = fake::disk::mode::delayed;
  drive.may_finish = 0;
  submit(nvme::io_opcode::read, 1);
  const auto started = client->reset();
  EXPECT_FALSE(ended(started).has_value());
  drive.may_finish = 8;
  EXPECT_TRUE(succeeds(started));
  EXPECT_EQ(status(), 0U);
  EXPECT_EQ(read<std::uint16_t>(pci_region::config, 4), 0);
  EXPECT_EQ(read<std::uint64_t>(pci_region::bar0, 0x28), 0U);
  enable();
  make_queues();
  submit(nvme::io_opcode::read, 1);
  EXPECT_EQ(answer_at(fake::io_cq, 0), 0);
}

TEST_F(VfioUserTransport, AFunctionLevelResetIsAReset) {
  map_ram();
  enable();
  write<std::uint16_t>(pci_region::config, 0x50, 0x8000);
  EXPECT_EQ(status(), 0U);
  enable();
  EXPECT_EQ(status(), nvme::csts_ready);
}

TEST_F(VfioUserTransport, MemoryWithoutAFileIsExplainedWhenTheControllerIsEnabled) {
  region without = ram.memory;
  without.fd = -1;
  ASSERT_TRUE(succeeds(client->map(without)));
  EXPECT_TRUE(troubles.empty());
  enable();
  EXPECT_EQ(status(), nvme::csts_fatal);
  write<std::uint32_t>(pci_region::bar0, 0x14, 0);
  ASSERT_EQ(troubles.size(), 1U);
  EXPECT_NE(troubles[0].hint.find("share=on"), std::string::npos) << troubles[0].hint;
}

TEST_F(VfioUserTransport, MemoryThatIsNotSharedIsExplainedOnceTheFirstCommandIsMissing) {
  const fake::shared_ram untouched{fake::ram_bytes};
  region unshared = ram.memory;
  unshared.fd = untouched.memory.fd;  // we see the file as it was, the client its own copy of it
  ASSERT_TRUE(succeeds(client->map(unshared)));
  for (int attempts = 0; attempts < 2; ++attempts) {
    enable();
    EXPECT_EQ(order(machine::create_cq(1, 16, fake::io_cq, 1)), std::nullopt);
    EXPECT_NE(status() & nvme::csts_fatal, 0U);
    write<std::uint32_t>(pci_region::bar0, 0x14, 0);
    EXPECT_EQ(status(), 0U);
  }
  ASSERT_EQ(troubles.size(), 1U);
  EXPECT_NE(troubles[0].hint.find("share=on"), std::string::npos) << troubles[0].hint;
}

void survive_shrunk_memory(int /*number*/, siginfo_t* info, void* /*context*/) {
  if (!handle_sigbus(*info)) {
    std::abort();
  }
}

TEST_F(VfioUserTransport, MemoryThatShrankIsNotTakenForMemoryThatIsNotShared) {
  const unique_fd file{::memfd_create("shrinks", MFD_CLOEXEC)};
  ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(fake::ram_bytes)), 0);
  region shrinks = ram.memory;
  shrinks.fd = file.get();
  ASSERT_TRUE(succeeds(client->map(shrinks)));
  enable();
  struct sigaction ours{};
  struct sigaction before{};
  ours.sa_sigaction = survive_shrunk_memory;
  ours.sa_flags = SA_SIGINFO;
  ASSERT_EQ(::sigaction(SIGBUS, &ours, &before), 0);
  ASSERT_EQ(::ftruncate(file.get(), 0), 0);
  ring(0, 1);
  turn();
  EXPECT_EQ(::sigaction(SIGBUS, &before, nullptr), 0);
  EXPECT_TRUE(troubles.empty());
  EXPECT_EQ(server->state(), vfio_user::server_state::idle);  // it ended the client itself
}

TEST_F(VfioUserTransport, AClientThatVanishesIsClearedAwayAfterItsLastCommand) {
  map_ram();
  enable();
  make_queues();
  drive.how = fake::disk::mode::delayed;
  drive.may_finish = 0;
  submit(nvme::io_opcode::write, 1);
  client.reset();
  turn();
  EXPECT_EQ(server->state(), vfio_user::server_state::closing);
  drive.may_finish = 8;
  turn();
  EXPECT_EQ(server->state(), vfio_user::server_state::idle);
  EXPECT_EQ(dma.unmaps, dma.maps);  // devices let go of its memory
  EXPECT_EQ(endpoint->counters().writes, 1U);
}

TEST_F(VfioUserTransport, AClientThatVanishesDuringAnUnmapIsClearedAway) {
  map_ram();
  enable();
  make_queues();
  drive.how = fake::disk::mode::delayed;
  drive.may_finish = 0;
  submit(nvme::io_opcode::write, 1);
  EXPECT_FALSE(ended(client->unmap(ram.memory)).has_value());
  client.reset();
  turn();
  drive.may_finish = 8;
  turn();
  EXPECT_EQ(server->state(), vfio_user::server_state::idle);
  connect();
  map_ram();
  enable();
  EXPECT_EQ(status(), nvme::csts_ready);
}

TEST_F(VfioUserTransport, TheNextClientFindsNothingOfTheLast) {
  map_ram();
  enable();
  make_queues();
  const int kept = dup(client->region_at(0).fd);  // the last client keeps its doorbells
  void* old = mmap(nullptr, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, kept, 0x1000);
  ASSERT_NE(old, MAP_FAILED);
  client.reset();
  turn();
  connect();
  EXPECT_EQ(status(), 0U);
  EXPECT_EQ(read<std::uint16_t>(pci_region::config, 4), 0);
  map_ram();
  enable();
  mmio_write<std::uint32_t>(static_cast<std::byte*>(old), 5);
  turn();
  EXPECT_EQ(endpoint->current()->state().submission_queues[0].head, 0);
  munmap(old, 0x1000);
  close(kept);
}

TEST_F(VfioUserTransport, EveryOffsetAndWidthOfEveryRegionIsSurvived) {
  map_ram();
  enable();
  const std::uint64_t ones = ~std::uint64_t{0};
  for (const auto where :
       {pci_region::bar0, pci_region::bar4, pci_region::bar5, pci_region::config}) {
    const std::uint64_t size = client->region_at(number(where)).size;
    for (std::uint64_t offset = 0; offset < size; offset += 61) {
      const std::size_t width = std::min<std::uint64_t>(1 + offset % 8, size - offset);
      EXPECT_TRUE(succeeds(client->region_write(number(where), offset,
                                                std::as_bytes(std::span{&ones, 1}).first(width))));
      EXPECT_TRUE(
          succeeds(client->region_read(number(where), offset, static_cast<std::uint32_t>(width))));
    }
  }
  EXPECT_TRUE(succeeds(client->reset()));
}

}  // namespace
}  // namespace runnel::target
