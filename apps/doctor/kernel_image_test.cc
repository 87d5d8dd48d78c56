// Goal: what is packed in a kernel's files comes out byte for byte, and files that are cut off, or
// say what cannot be, are refused. Method: files that the libraries of both kinds pack here.

#include "apps/doctor/kernel_image.h"

#include <gtest/gtest.h>
#include <lzma.h>
#include <unistd.h>
#include <zstd.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "drivers/pci/machine_for_tests.h"

namespace runnel::doctor {
namespace {

std::string content() {
  std::string text;
  for (int i = 0; i < 40'000; ++i) {  // more than one piece, packed or not
    text += std::to_string(i * 7919) + ' ';
  }
  return text;
}

std::string xz(const std::string& text) {
  std::string packed(lzma_stream_buffer_bound(text.size()), '\0');
  std::size_t used = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(
                1, LZMA_CHECK_CRC32, nullptr, reinterpret_cast<const std::uint8_t*>(text.data()),
                text.size(), reinterpret_cast<std::uint8_t*>(packed.data()), &used, packed.size()),
            LZMA_OK);
  packed.resize(used);
  return packed;
}

std::string zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 1));
  return packed;
}

void put(std::string& into, std::size_t at, std::uint32_t number) {
  std::memcpy(into.data() + at, &number, sizeof number);
}

/// A boot image whose code begins at 512 bytes for each of its sectors and one.
std::string boot_image(const std::string& payload, unsigned sectors = 39) {
  constexpr std::size_t offset = 1234;
  std::string image((sectors + 1) * 512 + offset, '\x90');
  image[0x1f1] = static_cast<char>(sectors);
  std::memcpy(image.data() + 0x202, "HdrS", 4);
  put(image, 0x248, offset);
  put(image, 0x24c, static_cast<std::uint32_t>(payload.size()) + 4);
  return image + payload + "size" + "what follows";
}

class KernelImage : public testing::Test {
 protected:
  outcome<std::string> unpacked(const std::string& bytes) {
    machine.file("/file", bytes);
    auto file = unpack_kernel_file(machine.files().real("/file"));
    if (!file) {
      return std::unexpected{file.error()};
    }
    std::string text(1 << 20, '\0');
    const ssize_t got = pread(file->get(), text.data(), text.size(), 0);
    EXPECT_GE(got, 0);
    text.resize(static_cast<std::size_t>(got));
    return text;
  }

  pci::machine_for_tests machine;
};

TEST_F(KernelImage, ModulesAndKernelsComeOutWholeHoweverTheyArePacked) {
  const std::string text = content();
  for (const std::string& file : {text, xz(text), zstd(text), boot_image(xz(text)),
                                  boot_image(zstd(text)), boot_image(text)}) {
    const auto found = unpacked(file);
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_TRUE(*found == text);
  }
}

TEST_F(KernelImage, FilesThatAreCutOffAreRefused) {
  for (const std::string& packed : {xz(content()), zstd(content())}) {
    for (const std::size_t size : {packed.size() - 1, packed.size() / 2, std::size_t{7}}) {
      const auto found = unpacked(packed.substr(0, size));
      ASSERT_FALSE(found) << size;
      EXPECT_NE(found.error().message().find("/file"), std::string::npos);
    }
  }
  EXPECT_FALSE(unpacked(""));
}

TEST_F(KernelImage, AHeaderThatLiesIsNoImage) {
  const std::string image = boot_image(xz(content()));
  for (const auto& [at, lie] : {std::pair<std::size_t, std::uint32_t>{0x248, 0xffff'ffff},
                                {0x24c, 0xffff'ffff},
                                {0x24c, 3},
                                {0x24c, static_cast<std::uint32_t>(image.size())}}) {
    std::string changed = image;
    put(changed, at, lie);
    const auto found = unpacked(changed);
    ASSERT_TRUE(found);
    EXPECT_TRUE(*found == changed) << at;  // as it is: no BTF will be found in it
  }
  const std::string cut = image.substr(0, 0x24f);
  EXPECT_EQ(unpacked(cut).value(), cut);
}

TEST_F(KernelImage, WhatIsNoFileIsRefused) {
  EXPECT_FALSE(unpack_kernel_file(machine.files().real("/none")));
  EXPECT_FALSE(unpack_kernel_file(machine.files().real("")));
}

}  // namespace
}  // namespace runnel::doctor
