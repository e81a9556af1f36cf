"""The API: customers, their orders and history, products, sales, as the serving store holds them."""
