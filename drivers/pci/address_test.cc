// Goal: whatever a user or a folder calls a device is one place or none. Method: tables.

#include "drivers/pci/address.h"

#include <gtest/gtest.h>

namespace runnel::pci {
namespace {

TEST(PciAddress, IsReadInBothFormsAndWrittenAsTheKernelDoes) {
  struct row {
    const char* text;
    address where;
    const char* again;
  };
  for (const row& each : {
           row{"0000:01:00.0", {0, 1, 0, 0}, "0000:01:00.0"},
           row{"01:00.0", {0, 1, 0, 0}, "0000:01:00.0"},
           row{"ff:1f.7", {0, 0xff, 0x1f, 7}, "0000:ff:1f.7"},
           row{"10000:e1:00.0", {0x10000, 0xe1, 0, 0}, "10000:e1:00.0"},
           row{"FFFFFFFF:AB:1c.3", {0xffff'ffff, 0xab, 0x1c, 3}, "ffffffff:ab:1c.3"},
       }) {
    const auto parsed = parse_address(each.text);
    ASSERT_TRUE(parsed) << each.text;
    EXPECT_EQ(*parsed, each.where) << each.text;
    EXPECT_EQ(to_string(*parsed), each.again);
    EXPECT_EQ(parse_address(each.again), parsed);
  }
}

TEST(PciAddress, EverythingElseIsNone) {
  for (const char* text : {"",
                           "0",
                           "01:00",
                           "1:00.0",
                           "01:0.0",
                           "01:00.8",
                           "01:20.0",
                           "01:00.00",
                           "01:00.0 ",
                           " 01:00.0",
                           "000:01:00.0",
                           "0000.01:00.0",
                           "0000:01:00:0",
                           "0000:01:00.",
                           "0000:01:00.0.",
                           "123456789:01:00.0",
                           "-001:01:00.0",
                           "0x00:01:00.0",
                           "0000:-1:00.0",
                           "g000:01:00.0",
                           "pci:0000:01:00.0",
                           ":01:00.0",
                           "0000:01-00.0"}) {
    EXPECT_FALSE(parse_address(text)) << text;
  }
}

}  // namespace
}  // namespace runnel::pci
